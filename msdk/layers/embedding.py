"""Embedding of the noise level."""

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812  the name every torch reader knows

from msdk.layers.conv import Linear


def positional(c_noise: Float[Tensor, " batch"], width: int) -> Float[Tensor, "batch width"]:
    """[sin(c f_i), cos(c f_i)] with f_i = 10000^(-i / (width/2 - 1)).

    Source: score_sde's sinusoidal embedding (after Vaswani et al. 2017). An odd width gets a column of zeros.
    """
    half = width // 2
    steps = torch.arange(half, dtype=c_noise.dtype, device=c_noise.device)
    angle = c_noise[:, None] * torch.exp(-math.log(10000) * steps / (half - 1))
    return F.pad(torch.cat([angle.sin(), angle.cos()], dim=1), (0, width % 2))


class NoiseEmbedding(nn.Module):
    """Positional embedding of `channels` values, then Linear, SiLU, Linear to `4 channels`, as in score_sde."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.channels = channels
        self.hidden = Linear(channels, 4 * channels)
        self.out = Linear(4 * channels, 4 * channels)

    def forward(self, c_noise: Float[Tensor, " batch"]) -> Float[Tensor, "batch e"]:
        angles = positional(c_noise, self.channels).to(self.hidden.weight.dtype)
        return self.out(F.silu(self.hidden(angles)))
