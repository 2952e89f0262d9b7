"""Noise levels around a middle, with the tails of Laplace's law."""

import math
from typing import TYPE_CHECKING

import attrs
from attrs.validators import gt

from msdk.noise_levels.base import NoiseLevel
from msdk.schedules.base import Schedule

if TYPE_CHECKING:
    from torch import Tensor


@attrs.frozen(kw_only=True)
class Laplace(NoiseLevel):
    """log SNR ~ Laplace(mean, scale), where SNR = 1 / ratio^2.

    Source: Hang et al. 2024, arXiv 2407.03297, Table 1; mean 0 and scale 0.5 are what it found best on ImageNet.

    Args:
        mean: Middle of log SNR; below 0 for more noise.
        scale: Mean distance from it.
    """

    mean: float = 0.0
    scale: float = attrs.field(default=0.5, validator=gt(0))

    def cdf(self, schedule: Schedule, t: float) -> float:
        ratio = schedule.ratio(t)
        if ratio == 0:
            return 0.0
        away = (2 * math.log(ratio) + self.mean) / self.scale  # rises with the noise
        return math.exp(away) / 2 if away < 0 else 1 - math.exp(-away) / 2

    def quantile(self, schedule: Schedule, u: "Tensor") -> "Tensor":
        import torch

        u = u.clamp(1e-12, 1 - 1e-12)  # where the logarithm is finite
        away = torch.where(u < 0.5, (2 * u).log(), -(2 * (1 - u)).log())
        return schedule.t_of_ratio(((self.scale * away - self.mean) / 2).exp())
