"""Self-attention over the pixels of a feature map."""

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
        qkv = rearrange(self.qkv(self.norm(x)), "b (n heads c) h w -> n b heads (h w) c", n=3, heads=self.heads)
        if qkv.stride(-1) != 1:  # fused kernels want the channels side by side, as channels-last images have them
            qkv = qkv.contiguous()
        h = rearrange(F.scaled_dot_product_attention(*qkv), "b heads (h w) c -> b (heads c) h w", h=x.shape[2])
        h = x + self.proj(h)
        return h if self.skip_scale == 1 else h * self.skip_scale  # a factor of 1 would still read and write the map


def attention(channels: int, style: BlockStyle) -> nn.Module:
    """Attention, or nothing where the map is narrower than one head, as in ADM."""
    return Attention2d(channels, style) if style.head_count(channels) else nn.Identity()
