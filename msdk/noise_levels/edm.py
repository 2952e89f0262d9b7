"""The log-normal noise levels of EDM."""

import math
from typing import TYPE_CHECKING

import attrs
from attrs.validators import gt

from msdk.noise_levels.base import NoiseLevel
from msdk.schedules.base import Schedule

if TYPE_CHECKING:
    from torch import Tensor


@attrs.frozen(kw_only=True)
class EDM(NoiseLevel):
    """log(ratio) ~ N(mean, std^2).

    Source: Karras et al. 2022, arXiv 2206.00364, Table 1.

    Args:
        mean: Mean of log(sigma / alpha).
        std: Its standard deviation.
    """

    mean: float = -1.2
    std: float = attrs.field(default=1.2, validator=gt(0))

    def cdf(self, schedule: Schedule, t: float) -> float:
        ratio = schedule.ratio(t)
        if ratio == 0:
            return 0.0
        z = (math.log(ratio) - self.mean) / self.std
        return math.erfc(-z / math.sqrt(2)) / 2

    def quantile(self, schedule: Schedule, u: "Tensor") -> "Tensor":
        import torch

        # u = 0 would be a ratio of 0; 1e-12 is 7 standard deviations below the mean.
        ratio = torch.exp(self.mean + self.std * torch.special.ndtri(u.clamp(1e-12, 1 - 1e-12)))
        return schedule.t_of_ratio(ratio)
