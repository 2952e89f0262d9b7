"""A law of training times: its distribution function, and the inverse."""

import math
from typing import TYPE_CHECKING

import attrs
from attrs.validators import gt

from msdk.noise_levels.base import NoiseLevel
from msdk.schedules.base import Schedule

if TYPE_CHECKING:
    from torch import Tensor


@attrs.frozen(kw_only=True)
class MyNoiseLevel(NoiseLevel):
    """Evenly spread in the logarithm of the ratio, from `low` to `high`.

    Args:
        low: Smallest sigma / alpha drawn.
        high: The largest.
    """

    low: float = attrs.field(default=0.02, validator=gt(0))
    high: float = attrs.field(default=80.0, validator=gt(0))

    def cdf(self, schedule: Schedule, t: float) -> float:
        if t <= 0:
            return 0.0
        share = math.log(schedule.ratio(t) / self.low) / math.log(self.high / self.low)
        return min(max(share, 0.0), 1.0)

    def quantile(self, schedule: Schedule, u: "Tensor") -> "Tensor":
        import torch

        return schedule.t_of_ratio(self.low * torch.exp(u * math.log(self.high / self.low)))
