"""The residual block of DDPM++ and NCSN++."""

import math
from typing import Literal

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812  the name every torch reader knows

from msdk.layers.conv import Conv2d, Linear
from msdk.layers.norm import group_norm
from msdk.layers.resample import FIR, Resample


class ResidualBlock(nn.Module):
    """(shortcut(x) + conv(silu(norm(conv(silu(norm(x))) + dense(silu(embedding)))))) / sqrt(2).

    Where it resamples, input and shortcut both do, before their first convolution.
    Source: the BigGAN block of score_sde (Song et al. 2021, arXiv 2011.13456, appendix H).

    Args:
        channels_in: Input channels.
        channels_out: Output channels.
        embedding: Width of the noise embedding.
        groups: Cap on the groups of the norms.
        dropout: Dropout probability in front of the second convolution.
        resample: Whether the block doubles or halves the image.
        fir: Whether it resamples with a FIR filter.
    """

    def __init__(
        self,
        channels_in: int,
        channels_out: int,
        *,
        embedding: int,
        groups: int,
        dropout: float,
        resample: Literal["up", "down", "none"] = "none",
        fir: bool = False,
    ) -> None:
        super().__init__()
        self.norm0 = group_norm(channels_in, groups)
        self.conv0 = Conv2d(channels_in, channels_out)
        self.dense = Linear(embedding, channels_out)
        self.norm1 = group_norm(channels_out, groups)
        self.dropout = nn.Dropout(dropout)
        self.conv1 = Conv2d(channels_out, channels_out, scale=0.0)
        self.shortcut = None
        if channels_in != channels_out or resample != "none":
            self.shortcut = Conv2d(channels_in, channels_out, 1)
        self.resample = None
        if resample != "none":
            self.resample = FIR(resample) if fir else Resample(resample)

    def forward(
        self, x: Float[Tensor, "batch c h w"], embedding: Float[Tensor, "batch_or_1 e"]
    ) -> Float[Tensor, "batch d h2 w2"]:
        h = F.silu(self.norm0(x))
        if self.resample is not None:
            h, x = self.resample(h), self.resample(x)
        h = self.conv0(h) + self.dense(F.silu(embedding))[:, :, None, None]
        h = self.conv1(self.dropout(F.silu(self.norm1(h))))
        if self.shortcut is not None:
            x = self.shortcut(x)
        return (x + h) / math.sqrt(2)
