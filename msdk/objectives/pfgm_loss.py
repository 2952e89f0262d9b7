"""The denoising loss under the noise of Poisson flows."""

import math
from typing import TYPE_CHECKING

import attrs
import torch
from torch import Tensor

from msdk.batch import Batch, per_image
from msdk.objectives.base import Draw
from msdk.objectives.denoising_loss import DenoisingLoss

if TYPE_CHECKING:
    from msdk.denoiser import Denoiser


class PFGMLoss(DenoisingLoss):
    """See `msdk.objectives.pfgm`. It owns nothing."""

    def __init__(self, reach: float) -> None:
        super().__init__()
        self.reach = reach

    def loss(self, batch: Batch, draw: Draw, denoiser: "Denoiser") -> Tensor:
        return super().loss(batch, attrs.evolve(draw, noise=self.noise(draw)), denoiser)

    def noise(self, draw: Draw) -> Tensor:
        """(x - x_0) / z of every image: normal noise over |g|, where |g| is half-normal above z / reach."""
        assert draw.extra is not None
        drawn = draw.extra.flatten(1)[:, :1].abs()
        least = per_image(torch.special.erf(draw.times / (self.reach * math.sqrt(2))), drawn)
        share = torch.special.erf(drawn / math.sqrt(2))
        size = math.sqrt(2) * torch.special.erfinv(least + (1 - least) * share)
        return draw.noise / size.view(-1, *[1] * (draw.noise.ndim - 1))
