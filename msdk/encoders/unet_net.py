"""The network of every U-Net encoder."""

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn

from msdk.encoders.base import FeatureInfo, Features, Shape
from msdk.encoders.unet import UNetPlan
from msdk.layers.attention import attention
from msdk.layers.blockwise import Blockwise
from msdk.layers.conv import Conv2d
from msdk.layers.embedding import NoiseEmbedding
from msdk.layers.resample import ConvDownsample, PyramidDownsample, resampling
from msdk.layers.residual import Middle, ResidualBlock, attended, block_pairs


class ResidualPyramid(nn.Module):
    """Adds a convolved, halved copy of the pyramid above; the sum is the next level's features and its pyramid."""

    def __init__(self, channels_in: int, channels_out: int, plan: UNetPlan) -> None:
        super().__init__()
        style = plan.style
        if plan.pyramid_taps is None:
            self.down = ConvDownsample(channels_out, style, one_sided=True, channels_in=channels_in)
        else:
            self.down = PyramidDownsample(
                channels_in, channels_out, taps=plan.pyramid_taps, conv_first=plan.pyramid_conv_first
            )
        self.skip_scale = style.skip_scale

    def forward(self, h: Tensor, pyramid: Tensor) -> tuple[Tensor, Tensor]:
        h = (self.down(pyramid) + h) * self.skip_scale
        return h, h


class SkipPyramid(nn.Module):
    """Adds a 1x1 map of the halved input."""

    def __init__(self, channels_in: int, channels_out: int, plan: UNetPlan) -> None:
        super().__init__()
        self.down = resampling("down", plan.style)
        self.conv = Conv2d(channels_in, channels_out, 1, init=plan.style.init)

    def forward(self, h: Tensor, pyramid: Tensor) -> tuple[Tensor, Tensor]:
        pyramid = self.down(pyramid)
        return self.conv(pyramid) + h, pyramid


class EncoderLevel(Blockwise):
    """The blocks of one resolution, then the way down to the next."""

    def __init__(
        self,
        blocks: list[ResidualBlock],
        attentions: list[nn.Module],
        down: nn.Module | None,
        pyramid: nn.Module | None,
    ) -> None:
        super().__init__()
        self.blocks, self.attentions = nn.ModuleList(blocks), nn.ModuleList(attentions)
        self.down, self.pyramid = down, pyramid

    def pairs(self) -> list[tuple[ResidualBlock, nn.Module]]:
        """Each block, and what attends behind it: `Attention2d`, or the identity."""
        return block_pairs(self.blocks, self.attentions)

    def forward(self, h: Tensor, pyramid: Tensor, embedding: Tensor) -> tuple[Tensor, Tensor, list[Tensor]]:
        """The features and the input pyramid for the next level, and its skips."""
        skips: list[Tensor] = []
        for block, attend in self.pairs():
            h = self.block(attended, block, attend, h, embedding)
            skips.append(h)
        if self.down is not None:
            h = self.block(self.down, h, embedding) if isinstance(self.down, ResidualBlock) else self.down(h)
            if self.pyramid is not None:
                h, pyramid = self.pyramid(h, pyramid)
            skips.append(h)
        return h, pyramid, skips


class UNetEncoder(nn.Module):
    """See `msdk.encoders.unet.UNet`."""

    noise_table: Tensor | None

    def __init__(self, plan: UNetPlan, shape: Shape, info: FeatureInfo) -> None:
        super().__init__()
        self.plan, style, width = plan, plan.style, plan.embedding.width

        def down(channels: int) -> nn.Module:
            if plan.resampling == "block":
                return ResidualBlock(channels, channels, style, embedding=width, resample="down")
            if plan.resampling == "plain":
                return resampling("down", style)
            return ConvDownsample(channels, style, one_sided=plan.resampling == "conv-one-sided")

        def pyramid(channels_in: int, channels_out: int) -> nn.Module | None:
            if plan.pyramid == "none":
                return None
            return (ResidualPyramid if plan.pyramid == "residual" else SkipPyramid)(channels_in, channels_out, plan)

        self.embedding = NoiseEmbedding(plan.embedding)
        self.stem = Conv2d(shape[0], plan.stem, init=style.init)
        levels: list[EncoderLevel] = []
        above = shape[0]  # channels of the input pyramid so far
        for index, level in enumerate(info.levels):
            channels, last = level.skips[-1], index == len(info.levels) - 1
            blocks = [ResidualBlock(before, channels, style, embedding=width) for before in level.skips[:-1]]
            attentions = [attention(channels, style, index) if level.attention else nn.Identity() for _ in blocks]
            below = (None, None) if last else (down(channels), pyramid(above, channels))
            levels.append(EncoderLevel(blocks, attentions, *below))
            above = channels if plan.pyramid == "residual" else shape[0]
        self.levels = nn.ModuleList(levels)
        self.middle = Middle(info.bottom, style, embedding=width) if plan.middle else None
        table = noise_levels(*plan.output_scale) if isinstance(plan.output_scale, tuple) else None
        self.register_buffer("noise_table", table, persistent=False)

    def forward(
        self,
        x: Float[Tensor, "batch c h w"],
        c_noise: Float[Tensor, " batch_or_1"],
        label: Tensor | None = None,
        augment: Tensor | None = None,
    ) -> Features:
        embedding = self.embedding(c_noise, label, augment)
        if self.plan.unit_range:
            x = 2 * x - 1
        h, pyramid = self.stem(x), x
        skips: list[Tensor] = [h]
        for level in self.levels:
            h, pyramid, own = level(h, pyramid, embedding)
            skips += own
        if self.middle is not None:
            h = self.middle(h, embedding)
        return Features(tuple(skips), h, embedding, self._output_scale(c_noise))

    def shard_units(self) -> list[nn.Module]:
        """See `msdk.training.sharding`."""
        return [*self.levels, *([] if self.middle is None else [self.middle])]

    def _output_scale(self, c_noise: Tensor) -> Tensor | None:
        if self.plan.output_scale is None:
            return None
        return 1 / (c_noise if self.noise_table is None else self.noise_table[c_noise.long()])


def noise_levels(largest: float, smallest: float, count: int) -> Float[Tensor, " count"]:
    """A geometric series of noise levels, largest first (score_sde's `sigmas`)."""
    first, last = math.log(largest), math.log(smallest)
    return torch.linspace(first, last, count, dtype=torch.float64).exp()
