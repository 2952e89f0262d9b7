"""Times drawn evenly."""

from typing import TYPE_CHECKING

import attrs
from attrs.validators import ge

from msdk.noise_levels.base import NoiseLevel
from msdk.schedules.base import Schedule

if TYPE_CHECKING:
    from torch import Tensor


@attrs.frozen(kw_only=True)
class Uniform(NoiseLevel):
    """t ~ U(t_first, t_max).

    Source: Song et al. 2021, arXiv 2011.13456, which starts at 1e-5 because the loss diverges at the data.

    Args:
        t_first: Smallest time drawn, in the schedule's own time; the schedule's `t_min` if that is larger.
    """

    t_first: float = attrs.field(default=1e-5, validator=ge(0))

    def cdf(self, schedule: Schedule, t: float) -> float:
        low = max(self.t_first, schedule.t_min)
        return min(max((t - low) / (schedule.t_max - low), 0.0), 1.0)

    def quantile(self, schedule: Schedule, u: "Tensor") -> "Tensor":
        low = max(self.t_first, schedule.t_min)
        return low + u * (schedule.t_max - low)
