"""Self-attention over the pixels of a feature map."""

import math

from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812  the name every torch reader knows

from msdk.layers.conv import Conv2d
from msdk.layers.norm import group_norm


class Attention2d(nn.Module):
    """(x + proj(softmax(q k / sqrt(c)) v)) / sqrt(2), one head over all pixels.

    Source: DDPM (Ho et al. 2020, arXiv 2006.11239, appendix B) with score_sde's rescaled skip. The paper's cost
    convention sees none of it: the projections are matrix products there, not convolutions.

    Args:
        channels: Channels of the feature map.
        groups: Cap on the groups of the norm.
    """

    def __init__(self, channels: int, groups: int) -> None:
        super().__init__()
        self.norm = group_norm(channels, groups)
        self.query = Conv2d(channels, channels, 1, scale=0.1, paper_counted=False)
        self.key = Conv2d(channels, channels, 1, scale=0.1, paper_counted=False)
        self.value = Conv2d(channels, channels, 1, scale=0.1, paper_counted=False)
        self.proj = Conv2d(channels, channels, 1, scale=0.0, paper_counted=False)

    def forward(self, x: Float[Tensor, "batch c h w"]) -> Float[Tensor, "batch c h w"]:
        h = self.norm(x)
        q, k, v = (rearrange(part(h), "b c h w -> b 1 (h w) c") for part in (self.query, self.key, self.value))
        h = rearrange(F.scaled_dot_product_attention(q, k, v), "b 1 (h w) c -> b c h w", h=x.shape[2])
        return (x + self.proj(h)) / math.sqrt(2)
