"""Self-attention over the pixels of a feature map, and convolution beside it."""

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812  the name every torch reader knows

from msdk.layers.conv import Conv2d
from msdk.layers.norm import group_norm
from msdk.layers.style import BlockStyle


class Attention2d(nn.Module):
    """(x + proj(softmax(q k / sqrt(c)) v)) * skip_scale over all pixels; output channels of `qkv` are [q|k|v][head][c].

    Source: DDPM (Ho et al. 2020, arXiv 2006.11239, appendix B); heads after Dhariwal and Nichol 2021, arXiv 2105.05233.

    Args:
        channels: Channels of the feature map.
        style: Norm, heads, skip scale and initial weights.
    """

    def __init__(self, channels: int, style: BlockStyle) -> None:
        super().__init__()
        self.family = style.family
        self.heads, self.skip_scale = style.head_count(channels), style.skip_scale
        self.norm = group_norm(channels, style)
        # A scale of 0.2 over [3c, c] is the bound that score_sde's 0.1 gives each [c, c], and EDM's sqrt(0.2).
        self.qkv = Conv2d(channels, 3 * channels, 1, init=style.init, scale=0.2)
        self.proj = Conv2d(channels, channels, 1, init=style.init, scale=0.0)

    def forward(self, x: Float[Tensor, "batch c h w"]) -> Float[Tensor, "batch c h w"]:
        h = x + self.proj(attended_pixels(self.qkv(self.norm(x)), self.heads))
        return h if self.skip_scale == 1 else h * self.skip_scale  # a factor of 1 would still read and write the map


def attended_pixels(qkv: Float[Tensor, "batch c3 h w"], heads: int) -> Float[Tensor, "batch c h w"]:
    """softmax(q k / sqrt(c)) v over all pixels; channels are [q|k|v][head][c]."""
    parts = rearrange(qkv, "b (n heads c) h w -> n b heads (h w) c", n=3, heads=heads)
    if parts.stride(-1) != 1:  # fused kernels want the channels side by side, as channels-last images have them
        parts = parts.contiguous()
    query, key, value = parts
    found = F.scaled_dot_product_attention(query, key, value)
    return rearrange(found, "b heads (h w) c -> b (heads c) h w", h=qkv.shape[2])


class InceptionMixer(nn.Module):
    """(x + FC(y + DConv(y))) * skip_scale, where y is what three branches make of the channels [a | b | c] of norm(x).

    High frequencies pass DConv(FC(a)) and FC(MaxPool(b)), each with a GELU behind it, from h/2 channels to h each; low
    ones pass Up(MHSA(Pool(c))). FC is a 1x1 convolution, DConv a depthwise one of 3x3, MaxPool takes the largest of 3x3
    pixels; Pool is the mean of 2x2 pixels and Up repeats them, or both are nothing.
    Source: Si et al. 2022, arXiv 2205.12956, Eq. 3 to 8; in a U-Net Lee et al. 2023, arXiv 2306.04990.

    Args:
        channels: Channels of the feature map.
        style: Norm, heads, skip scale, initial weights, and the shares of convolution.
        level: Of the feature map, which has a share of its own; -1 is the coarsest.
    """

    def __init__(self, channels: int, style: BlockStyle, level: int) -> None:
        super().__init__()
        self.skip_scale, self.pool = style.skip_scale, 0 <= level < style.pooled
        self.heads, self.high = style.split(channels, level)
        half, low = self.high // 2, channels - self.high
        self.norm = group_norm(channels, style)
        if self.high:
            self.wide = nn.Conv2d(half, self.high, 1, bias=False)
            self.deep = nn.Conv2d(self.high, self.high, 3, padding=1, groups=self.high, bias=False)
            self.largest = Conv2d(half, self.high, 1, init=style.init)
        if low:
            self.qkv = Conv2d(low, 3 * low, 1, init=style.init, scale=0.2)
        both = 2 * self.high + low
        self.fuse = nn.Conv2d(both, both, 3, padding=1, groups=both, bias=False)
        self.proj = Conv2d(both, channels, 1, init=style.init, scale=0.0)

    def forward(self, x: Float[Tensor, "batch c h w"]) -> Float[Tensor, "batch c h w"]:
        z, high = self.norm(x), self.high
        found: list[Tensor] = []
        if high:
            a, b = z[:, : high // 2], z[:, high // 2 : high]
            found += [F.gelu(self.deep(self.wide(a))), F.gelu(self.largest(F.max_pool2d(b, 3, stride=1, padding=1)))]
        if self.heads:
            found.append(self._attended(z[:, high:]))
        y = torch.cat(found, dim=1)
        h = x + self.proj(y + self.fuse(y))
        return h if self.skip_scale == 1 else h * self.skip_scale

    def _attended(self, low: Tensor) -> Tensor:
        if not self.pool:
            return attended_pixels(self.qkv(low), self.heads)
        small = F.avg_pool2d(low, 2, ceil_mode=True)  # an odd side keeps its last pixel
        return F.interpolate(attended_pixels(self.qkv(small), self.heads), size=low.shape[2:], mode="nearest")


def attention(channels: int, style: BlockStyle, level: int = -1) -> nn.Module:
    """What attends: attention, with convolution beside it, or nothing where the map is narrower than a head, as in ADM.

    Args:
        channels: Of the map.
        style: Of the blocks.
        level: Of the map, for styles whose levels differ; -1 is the coarsest.
    """
    if not style.head_count(channels):
        return nn.Identity()
    return Attention2d(channels, style) if style.convolution is None else InceptionMixer(channels, style, level)
