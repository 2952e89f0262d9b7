"""The residual block of all U-Nets here, and the middle that they share."""

import typing
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812  the name every torch reader knows

from msdk.layers.attention import attention
from msdk.layers.blockwise import Blockwise
from msdk.layers.conv import Conv2d, Linear
from msdk.layers.norm import group_norm
from msdk.layers.resample import resampling
from msdk.layers.style import BlockStyle


class ResidualBlock(nn.Module):
    """(shortcut(x) + conv1(silu(norm1(conv0(silu(norm0(x)))) modulated by the embedding))) * skip_scale.

    Where it resamples, input and shortcut both do, before their first convolution.
    Source: DDPM's block; resampling inside it after BigGAN (Song et al. 2021, arXiv 2011.13456, appendix H), modulation
    by scale and shift after Dhariwal and Nichol 2021, arXiv 2105.05233.

    Args:
        channels_in: Input channels.
        channels_out: Output channels.
        style: What the families differ in.
        embedding: Width of the embedding, None for a block without one.
        resample: Whether the block doubles or halves the image.
    """

    def __init__(
        self,
        channels_in: int,
        channels_out: int,
        style: BlockStyle,
        *,
        embedding: int | None,
        resample: Literal["up", "down", "none"] = "none",
    ) -> None:
        super().__init__()
        self.style = style
        self.norm0 = group_norm(channels_in, style)
        self.conv0 = Conv2d(channels_in, channels_out, init=style.init)
        self.dense = None
        if embedding is not None:
            outputs = channels_out if style.modulation == "shift" else 2 * channels_out
            self.dense = Linear(embedding, outputs, init=style.init)
        self.norm1 = group_norm(channels_out, style)
        self.dropout = nn.Dropout(style.dropout)
        self.conv1 = Conv2d(channels_out, channels_out, init=style.init, scale=0.0)
        self.shortcut = None
        if channels_in != channels_out or (resample != "none" and style.project_resampled):
            self.shortcut = Conv2d(channels_in, channels_out, 1, init=style.init, scale=style.shortcut_scale)
        self.resample = None if resample == "none" else resampling(resample, style)

    def forward(
        self, x: Float[Tensor, "batch c h w"], embedding: Float[Tensor, "batch_or_1 e"] | None = None
    ) -> Float[Tensor, "batch d h2 w2"]:
        h = F.silu(self.norm0(x))
        if self.resample is not None:
            h, x = self.resample(h), self.resample(x)
        h = self.conv0(h)
        if self.dense is None:
            h = self.norm1(h)
        elif self.style.modulation == "shift":
            h = self.norm1(h + self.dense(embedding)[:, :, None, None])
        else:
            scale, shift = self.dense(embedding)[:, :, None, None].chunk(2, dim=1)
            h = torch.addcmul(shift, self.norm1(h), 1 + scale)  # one pass over the map instead of two
        h = self.conv1(self.dropout(F.silu(h)))
        if self.shortcut is not None:
            x = self.shortcut(x)
        h = x + h
        return h if self.style.skip_scale == 1 else h * self.style.skip_scale


def block_pairs(blocks: nn.ModuleList, attentions: nn.ModuleList) -> list[tuple[ResidualBlock, nn.Module]]:
    """Blocks beside what attends behind each, with their types, which a ModuleList forgets."""
    return typing.cast("list[tuple[ResidualBlock, nn.Module]]", list(zip(blocks, attentions, strict=True)))


def attended(block: ResidualBlock, attend: nn.Module, x: Tensor, embedding: Tensor | None = None) -> Tensor:
    """A block, and what attends behind it: `Attention2d`, or the identity."""
    return attend(block(x, embedding))


class Middle(Blockwise):
    """Block, attention, block at the bottom: of the encoder in score_sde and LDM, of the decoder in EDM's networks."""

    def __init__(self, channels: int, style: BlockStyle, *, embedding: int | None) -> None:
        super().__init__()
        self.block0 = ResidualBlock(channels, channels, style, embedding=embedding)
        self.attention = attention(channels, style)
        self.block1 = ResidualBlock(channels, channels, style, embedding=embedding)

    def forward(self, x: Tensor, embedding: Tensor | None = None) -> Tensor:
        h = self.block(attended, self.block0, self.attention, x, embedding)
        return self.block(self.block1, h, embedding)


class OutputHead(nn.Module):
    """conv(silu(norm(x))), to the channels of the image."""

    def __init__(self, channels: int, outputs: int, style: BlockStyle) -> None:
        super().__init__()
        self.norm = group_norm(channels, style)
        self.conv = Conv2d(channels, outputs, init=style.init, scale=0.0)

    def forward(self, x: Float[Tensor, "batch c h w"]) -> Float[Tensor, "batch d h w"]:
        return self.conv(F.silu(self.norm(x)))
