"""The network of the DDPM++ decoder."""

from typing import TYPE_CHECKING

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812  the name every torch reader knows

from msdk.encoders.base import FeatureInfo, Features, Shape
from msdk.layers.attention import Attention2d
from msdk.layers.conv import Conv2d
from msdk.layers.norm import group_norm
from msdk.layers.residual import ResidualBlock

if TYPE_CHECKING:
    from msdk.decoders.score_sde import DDPMpp


class DecoderLevel(nn.Module):
    """The blocks of one resolution, its attention, then the way up to the next."""

    def __init__(self, blocks: list[ResidualBlock], attention: Attention2d | None, up: ResidualBlock | None) -> None:
        super().__init__()
        self.blocks, self.attention, self.up = nn.ModuleList(blocks), attention, up

    def forward(self, h: Tensor, skips: list[Tensor], embedding: Tensor) -> Tensor:
        for block in self.blocks:
            h = block(torch.cat([h, skips.pop()], dim=1), embedding)
        if self.attention is not None:
            h = self.attention(h)
        return h if self.up is None else self.up(h, embedding)


class DDPMppDecoder(nn.Module):
    """See `msdk.decoders.score_sde.DDPMpp`."""

    def __init__(self, spec: "DDPMpp", info: FeatureInfo, widths: tuple[int, ...], shape: Shape) -> None:
        super().__init__()

        def block(channels_in: int, channels_out: int, *, up: bool = False) -> ResidualBlock:
            return ResidualBlock(
                channels_in,
                channels_out,
                embedding=info.embedding,
                groups=spec.groups,
                dropout=spec.dropout,
                resample="up" if up else "none",
                fir=spec.fir,
            )

        levels: list[DecoderLevel] = []  # coarsest first
        before = info.bottom
        for index in reversed(range(len(widths))):
            width, blocks = widths[index], list[ResidualBlock]()
            for skip in reversed(info.levels[index].skips):
                blocks.append(block(before + skip, width))
                before = width
            attention = Attention2d(width, spec.groups) if info.levels[index].attention else None
            levels.append(DecoderLevel(blocks, attention, block(width, width, up=True) if index > 0 else None))
        self.levels = nn.ModuleList(levels)
        self.norm = group_norm(before, spec.groups)
        self.out = Conv2d(before, shape[0], scale=0.0)

    def forward(self, features: Features) -> Float[Tensor, "batch c h w"]:
        h, embedding, skips = features.bottom, features.embedding, list(features.skips)
        for level in self.levels:
            h = level(h, skips, embedding)
        return self.out(F.silu(self.norm(h)))
