"""Noise levels drawn evenly on a logarithmic scale."""

import math
from typing import TYPE_CHECKING

import attrs
from attrs.validators import gt

from msdk.errors import PartError
from msdk.noise_levels.base import NoiseLevel
from msdk.schedules.base import Schedule

if TYPE_CHECKING:
    from torch import Tensor


@attrs.frozen(kw_only=True)
class LogUniform(NoiseLevel):
    """log(ratio) ~ U(log(low), log(high)).

    Source: Xu et al. 2022, arXiv 2209.11178, Algorithm 2, which draws the exponent of the scale of noise evenly; also
    the law of even times on `ve`.

    Args:
        low: Lowest ratio that is drawn.
        high: Highest one.
    """

    low: float = attrs.field(default=1e-3, validator=gt(0))
    high: float = attrs.field(default=40.0, validator=gt(0))

    def __attrs_post_init__(self) -> None:
        if self.low >= self.high:
            raise PartError(f"low = {self.low} must be below high = {self.high}")

    def cdf(self, schedule: Schedule, t: float) -> float:
        ratio = schedule.ratio(t)
        if ratio <= self.low:
            return 0.0
        return min(math.log(ratio / self.low) / math.log(self.high / self.low), 1.0)

    def quantile(self, schedule: Schedule, u: "Tensor") -> "Tensor":
        return schedule.t_of_ratio((u * math.log(self.high / self.low)).exp() * self.low)
