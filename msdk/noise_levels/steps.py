"""Times drawn from whole steps."""

import math
from typing import TYPE_CHECKING

import attrs
from attrs.validators import ge

from msdk.noise_levels.base import NoiseLevel
from msdk.schedules.base import Schedule

if TYPE_CHECKING:
    from torch import Tensor


@attrs.frozen(kw_only=True)
class Steps(NoiseLevel):
    """t ~ U{times of the steps}, never between two of them; each step, the first one too, has the same share.

    The steps are those of a schedule that is a table, `vp-discrete` and its like.
    Source: Ho et al. 2020, arXiv 2006.11239, Algorithm 1; iDDPM, LDM and score_sde's discrete models train like this.

    Args:
        count: Steps, evenly from `t_min` to `t_max`, of a schedule that is no table: 1000 on `ve` are SMLD's.
    """

    count: int = attrs.field(default=1000, validator=ge(2))

    def cdf(self, schedule: Schedule, t: float) -> float:
        steps, pace = self._steps(schedule)
        # The time of a step, however it was computed, is that step's.
        return min(max(math.floor((t - schedule.t_min) / pace + 1 + 1e-6), 0), steps) / steps

    def quantile(self, schedule: Schedule, u: "Tensor") -> "Tensor":
        steps, pace = self._steps(schedule)
        # The share of k steps is the time of the k-th, whichever way the product is rounded.
        return schedule.t_min + ((u * steps - 1e-10).ceil().clamp(1, steps) - 1) * pace

    def _steps(self, schedule: Schedule) -> tuple[int, float]:
        """How many steps there are, and the time between two."""
        table: object = getattr(schedule, "steps", None)
        steps = table if isinstance(table, int) else self.count
        return steps, (schedule.t_max - schedule.t_min) / (steps - 1)
