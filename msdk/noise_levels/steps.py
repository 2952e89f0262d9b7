"""Times drawn from whole steps."""

import bisect
import functools
import itertools
import math
from typing import TYPE_CHECKING, Literal

import attrs
from attrs.validators import ge, gt

from msdk.errors import PartError
from msdk.noise_levels.base import NoiseLevel
from msdk.schedules.base import Schedule

if TYPE_CHECKING:
    from torch import Tensor


Weights = Literal["even", "cosmap", "sigmoid", "parabola"]


@functools.lru_cache(maxsize=16)
def shares(steps: int, weights: Weights, slope: float, middle: float, shift: float) -> tuple[float, ...]:
    """The share of each step, the first one first."""
    found: list[float] = []
    for step in range(steps):
        x = step / (steps - 1)
        away = shift - shift * x + x
        u = x / away  # the place that the shift moves to x
        if weights == "cosmap":
            weight = 2 / (math.pi * (1 - 2 * u + 2 * u * u))
        elif weights == "sigmoid":
            weight = 1 / (1 + math.exp(-slope * (u - middle)))
        else:
            weight = max(2 - slope * (u - middle) ** 2, 0.0) if weights == "parabola" else 1.0
        found.append(weight * shift / (away * away))
    whole = math.fsum(found)
    return tuple(weight / whole for weight in found)


@functools.lru_cache(maxsize=16)
def _below(steps: int, weights: Weights, slope: float, middle: float, shift: float) -> tuple[float, ...]:
    """The share of the first so many steps."""
    sums = itertools.accumulate(shares(steps, weights, slope, middle, shift), initial=0.0)
    return (*(min(each, 1.0) for each in itertools.islice(sums, steps)), 1.0)


@attrs.frozen(kw_only=True)
class Steps(NoiseLevel):
    """t ~ {times of the steps}, never between two of them; each step, the first one too, has the same share.

    The steps are those of a schedule that is a table, `vp-discrete` and its like. With weights, the step at the share x
    of the table has one in proportion to a density at x: the cosine's of `cosmap`, 1 / (1 + exp(-slope (x - middle))),
    or max(2 - slope (x - middle)^2, 0); a shift moves x as `shifted` moves the time of straight paths.
    Source: Ho et al. 2020, arXiv 2006.11239, Algorithm 1; iDDPM, LDM and score_sde's discrete models train like this.
    The weights are those that OneTrainer offers; "cosmap": Esser et al. 2024, arXiv 2403.03206, Eq. 21.

    Args:
        count: Steps, evenly from `t_min` to `t_max`, of a schedule that is no table: 1000 on `ve` are SMLD's.
        weights: Whether all steps have the same share, or another law.
        slope: Of the sigmoid and of the parabola.
        middle: Of the sigmoid and of the parabola, as a share of the table.
        shift: Above 1 for more draws near the noise.
    """

    count: int = attrs.field(default=1000, validator=ge(2))
    weights: Weights = "even"
    slope: float = attrs.field(default=5.0, validator=gt(0))
    middle: float = 0.5
    shift: float = attrs.field(default=1.0, validator=gt(0))

    def __attrs_post_init__(self) -> None:
        if self.weights == "parabola" and not 0 < self.middle < 1:
            raise PartError(f"middle = {self.middle:g} of a parabola must be a share of the table, between 0 and 1")

    def cdf(self, schedule: Schedule, t: float) -> float:
        steps, pace = self._steps(schedule)
        # The time of a step, however it was computed, is that step's.
        done = min(max(math.floor((t - schedule.t_min) / pace + 1 + 1e-6), 0), steps)
        return done / steps if self._even else self._sums(steps)[done]

    def quantile(self, schedule: Schedule, u: "Tensor") -> "Tensor":
        steps, pace = self._steps(schedule)
        if self._even:
            # The share of k steps is the time of the k-th, whichever way the product is rounded.
            return schedule.t_min + ((u * steps - 1e-10).ceil().clamp(1, steps) - 1) * pace
        import torch

        sums = self._sums(steps)
        found = [bisect.bisect_left(sums, each - 1e-14, lo=1, hi=steps) - 1 for each in u.flatten().tolist()]
        return schedule.t_min + torch.tensor(found, dtype=u.dtype).view(u.shape) * pace

    @property
    def _even(self) -> bool:
        return self.weights == "even" and self.shift == 1

    def _sums(self, steps: int) -> tuple[float, ...]:
        return _below(steps, self.weights, self.slope, self.middle, self.shift)

    def _steps(self, schedule: Schedule) -> tuple[int, float]:
        """How many steps there are, and the time between two."""
        table: object = getattr(schedule, "steps", None)
        steps = table if isinstance(table, int) else self.count
        return steps, (schedule.t_max - schedule.t_min) / (steps - 1)
