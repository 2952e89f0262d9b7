"""The denoising loss over its learned scale."""

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from msdk.batch import Batch
from msdk.objectives.base import Draw
from msdk.objectives.denoising_loss import noisy, weighted_error

if TYPE_CHECKING:
    from msdk.denoiser import Denoiser

RATIOS = (1e-6, 1e6)
"""Beyond them the logarithm of a ratio, which may be 0 or infinite at the ends of a schedule, stands still."""


class UncertaintyLoss(nn.Module):
    """See `msdk.objectives.uncertainty`."""

    frequencies: Tensor
    phases: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.register_buffer("frequencies", 2 * math.pi * torch.randn(channels, generator=generator))
        self.register_buffer("phases", 2 * math.pi * torch.rand(channels, generator=generator))
        self.weight = nn.Parameter(torch.zeros(channels))
        self.bias = nn.Parameter(torch.zeros(1))

    def log_variance(self, ratios: Tensor) -> Tensor:
        """The function u at ratios [batch], on their device."""
        c = (ratios.clamp(*RATIOS).log() / 4).to(self.weight)
        features = math.sqrt(2) * (c[:, None] * self.frequencies + self.phases).cos()
        return (features * self.weight).sum(1) + self.bias

    def loss(self, batch: Batch, draw: Draw, denoiser: "Denoiser") -> Tensor:
        x_0 = batch.images
        output, _ = denoiser.output(noisy(x_0, draw, denoiser), draw.times, batch.condition, draw.asked)
        error = weighted_error(output, x_0, draw, denoiser)
        u = self.log_variance(denoiser.schedule.ratio(draw.times).to(x_0.device, x_0.dtype, non_blocking=True))
        return error * (-u).exp() + u
