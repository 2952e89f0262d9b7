"""The three areas of SpeeD: where the noise comes ever faster, where it comes ever slower, and where it has come."""

from typing import TYPE_CHECKING, Any

import attrs
from attrs.validators import gt, in_

from msdk.clusterings.base import Clustering, Found, Subject
from msdk.errors import PartError
from msdk.schedules.clocks import Clock

if TYPE_CHECKING:
    from torch import Tensor

POINTS = 20_001
"""Of the grid on which the steepest place is looked for."""

BISECTIONS = 40
"""Of three intervals of the grid."""


@attrs.frozen(kw_only=True)
class Speed(Clustering):
    """Acceleration, deceleration and convergence: three stages by how fast the noise comes. Looks at no data.

    With the share p(t) = alpha^2 / (alpha^2 + sigma^2) of the image in x_t, which is SpeeD's alpha-bar, the process
    increment accelerates while -dp/dt grows, decelerates from its steepest place on, and has converged where p is
    1 / `converged`. Under the linear schedule the first edge is (sqrt(beta_1 - beta_0) - beta_0) / (beta_1 - beta_0)
    and the second solves beta_0 t + (beta_1 - beta_0) t^2 / 2 = log `converged`. Times are those of the schedule's own
    clock.
    Source: Wang et al. 2024, arXiv 2405.17403 (SpeeD), whose bound of the increment is the same up to a factor.

    Args:
        stages: 3 for all areas, 2 for both areas of change as one, as the noise level `speed` draws them.
        converged: How many times less than at first the image counts where the process has converged. 140 puts that at
            t = 0.7 of the linear schedule, the published 700 of 1000 steps.
    """

    stages: int = attrs.field(default=3, validator=in_((2, 3)))
    converged: float = attrs.field(default=140.0, validator=gt(1))

    def find(self, subject: Subject) -> Found:
        schedule = subject.schedule
        clock = Clock.of(schedule)
        end = schedule.t_of_ratio((self.converged - 1) ** 0.5)
        turn = _steepest(clock)
        if not schedule.t_min < turn < end < schedule.t_max:
            raise PartError(
                f"the process changes fastest at t = {turn:.4g} and has converged at {end:.4g} of the schedule's "
                f"{schedule.t_min:g} .. {schedule.t_max:g}: set converged so that the second lies between"
            )
        times = _even(clock, 401)
        curves = {"t": times.tolist(), "compared": _share(clock, times).tolist()}
        return Found(edges_t=(turn, end)[3 - self.stages :], curves=curves)


def _share(clock: Clock, times: "Tensor") -> "Tensor":
    """The share of the image in x_t."""
    return 1 / (1 + clock.schedule.ratio(times).square())


def _even(clock: Clock, points: int) -> "Tensor":
    """Times evenly spaced by the clock, float64 [points]."""
    import torch

    shares = torch.linspace(0, 1, points, dtype=torch.float64)
    return clock.between(clock.schedule.t_min, clock.schedule.t_max, shares)


def _steepest(clock: Clock) -> float:
    """Where the share of the image falls fastest by the clock: the best of a grid, then the zero of its bend."""
    import torch

    schedule = clock.schedule
    first, last = float(clock.reading(schedule.t_min)), float(clock.reading(schedule.t_max))
    step = (last - first) / (POINTS - 1)
    readings = first + step * torch.arange(POINTS, dtype=torch.float64)

    def share(at: Any) -> Any:
        return 1 / (1 + schedule.ratio(clock.time(at)) ** 2)

    fall = -share(readings).diff()
    best = int(fall.argmax())
    low, high = float(readings[max(best - 1, 1)]), float(readings[min(best + 2, POINTS - 2)])
    for _ in range(BISECTIONS):
        middle = (low + high) / 2
        bend = share(middle - step) - 2 * share(middle) + share(middle + step)
        low, high = (middle, high) if bend < 0 else (low, middle)
    return float(clock.time((low + high) / 2))
