"""The network of the DDPM++ encoder."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from jaxtyping import Float
from torch import Tensor, nn

from msdk.encoders.base import FeatureInfo, Features, Shape
from msdk.errors import PartError
from msdk.layers.attention import Attention2d
from msdk.layers.conv import Conv2d
from msdk.layers.embedding import NoiseEmbedding
from msdk.layers.resample import PyramidDownsample
from msdk.layers.residual import ResidualBlock

if TYPE_CHECKING:
    from msdk.encoders.score_sde import DDPMpp


class EncoderLevel(nn.Module):
    """The blocks of one resolution, then the way down to the next."""

    def __init__(
        self,
        blocks: list[ResidualBlock],
        attentions: Sequence[nn.Module],
        down: ResidualBlock | None,
        pyramid: PyramidDownsample | None,
    ) -> None:
        super().__init__()
        self.blocks, self.attentions = nn.ModuleList(blocks), nn.ModuleList(attentions)
        self.down, self.pyramid = down, pyramid

    def forward(self, h: Tensor, image: Tensor, embedding: Tensor, skips: list[Tensor]) -> tuple[Tensor, Tensor]:
        """Adds its skips; returns the features and the input pyramid for the next level."""
        for block, attention in zip(self.blocks, self.attentions, strict=True):
            h = attention(block(h, embedding))
            skips.append(h)
        if self.down is not None:
            h = self.down(h, embedding)
            if self.pyramid is not None:
                h = image = (self.pyramid(image) + h) / math.sqrt(2)
            skips.append(h)
        return h, image


class DDPMppEncoder(nn.Module):
    """See `msdk.encoders.score_sde.DDPMpp`."""

    def __init__(self, spec: "DDPMpp", shape: Shape, info: FeatureInfo) -> None:
        super().__init__()

        def block(channels_in: int, channels_out: int, resample: Literal["down", "none"] = "none") -> ResidualBlock:
            return ResidualBlock(
                channels_in,
                channels_out,
                embedding=info.embedding,
                groups=spec.groups,
                dropout=spec.dropout,
                resample=resample,
                fir=spec.fir,
            )

        self.embedding = NoiseEmbedding(spec.channels)
        self.stem = Conv2d(shape[0], spec.channels)
        levels: list[EncoderLevel] = []
        above = shape[0]  # channels of the input pyramid so far
        for index, level in enumerate(info.levels):
            width, last = level.skips[-1], index == len(info.levels) - 1
            blocks = [block(channels, width) for channels in level.skips[:-1]]
            attentions = [Attention2d(width, spec.groups) if level.attention else nn.Identity() for _ in blocks]
            pyramid = PyramidDownsample(above, width) if spec.pyramid == "residual" and not last else None
            levels.append(EncoderLevel(blocks, attentions, None if last else block(width, width, "down"), pyramid))
            above = width
        self.levels = nn.ModuleList(levels)
        self.middle_in = block(info.bottom, info.bottom)
        self.middle_attention = Attention2d(info.bottom, spec.groups)
        self.middle_out = block(info.bottom, info.bottom)

    def forward(
        self,
        x: Float[Tensor, "batch c h w"],
        c_noise: Float[Tensor, " batch_or_1"],
        label: Tensor | None = None,
        augment: Tensor | None = None,
    ) -> Features:
        if label is not None or augment is not None:
            raise PartError("the ddpmpp encoder takes no class or augmentation labels")
        embedding = self.embedding(c_noise)
        h, pyramid = self.stem(x), x
        skips: list[Tensor] = [h]
        for level in self.levels:
            h, pyramid = level(h, pyramid, embedding, skips)
        h = self.middle_out(self.middle_attention(self.middle_in(h, embedding)), embedding)
        return Features(tuple(skips), h, embedding)
