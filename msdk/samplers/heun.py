"""Heun's method on the probability-flow ODE, as EDM samples."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar

import attrs
from attrs.validators import gt

from msdk.samplers.base import Denoise, Noise, Sampler
from msdk.samplers.grids import Grid, time_grid
from msdk.schedules.base import Schedule

if TYPE_CHECKING:
    from torch import Tensor


@attrs.frozen(kw_only=True)
class Heun(Sampler):
    """Trapezoid steps of dy/dr = eps(y, r) in y = x / alpha and r = sigma / alpha; the last one, into r = 0, is Euler.

    The grid has `steps` nodes and then the clean image, so 18 steps make 35 calls.
    Source: Karras et al. 2022, arXiv 2206.00364, Algorithm 1 (deterministic).

    Args:
        grid: How the times are spaced, see `msdk.samplers.grids`.
        rho: Exponent of the "rho" grid.
        t_end: Last time above 0; the schedule's `t_min` if that is larger.
    """

    order: ClassVar[int] = 2
    grid: Grid = "rho"
    rho: float = attrs.field(default=7.0, validator=gt(0))
    t_end: float = attrs.field(default=1e-3, validator=gt(0))

    def times(self, schedule: Schedule, steps: int) -> list[float]:
        if steps == 1:
            return [schedule.t_max, 0.0]
        return [*time_grid(self.grid, schedule, steps - 1, self.t_end, self.rho), 0.0]

    def calls(self, steps: int) -> list[int]:
        return [2] * (steps - 1) + [1]

    def init(self, times: Sequence[float]) -> None:
        return None

    def step(
        self, denoise: Denoise, schedule: Schedule, x_t: "Tensor", t: float, s: float, memory: None, noise: Noise
    ) -> "tuple[Tensor, None]":
        x_0 = denoise(x_t, t)
        if s == 0:
            return x_0, None  # Euler into r = 0 lands on the estimate itself
        y, r, dr = x_t / schedule.alpha(t), schedule.ratio(t), schedule.ratio(s) - schedule.ratio(t)
        slope_t = (y - x_0) / r
        x_s = schedule.alpha(s) * (y + dr * slope_t)
        slope_s = (x_s / schedule.alpha(s) - denoise(x_s, s)) / schedule.ratio(s)
        return schedule.alpha(s) * (y + dr * (slope_t + slope_s) / 2), None
