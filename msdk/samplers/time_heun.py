"""Heun's method on the probability-flow ODE in x and t, where the schedule itself bends the path."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import attrs
from attrs.validators import ge, gt, le

from msdk.samplers.base import Denoise, Noise, Sampler
from msdk.samplers.grids import Grid, to_clean
from msdk.samplers.ratio_space import refuse_empty_churn
from msdk.schedules.base import Schedule

if TYPE_CHECKING:
    from torch import Tensor


@attrs.frozen(kw_only=True)
class TimeHeun(Sampler):
    """dx/dt = f x + g^2 / (2 sigma^2) (x - alpha x_0) by a two-stage Runge-Kutta method; the last step is Euler's.

    It goes to t = 0. x' = x + share h d at t + share h, then x + h ((1 - 1 / (2 share)) d + d' / (2 share)). On
    schedules with sigma = t it is `heun`. Churn as there, in the ratio.
    Source: Karras et al. 2022, arXiv 2206.00364, Algorithm 3 and appendix F ("ablation sampler").

    Args:
        share: Of the step at which the second slope is taken: 1 is Heun's method, 1/2 the midpoint rule, 2/3 Ralston's.
        corrects: Whether there is a second slope at all; Euler's method without.
        grid: How the times are spaced, see `msdk.samplers.grids`.
        rho: Exponent of the "rho" grid.
        t_end: Last time above 0; the schedule's `t_min` if that is larger.
        churn: S_churn; 0 adds nothing.
        churn_low: S_min, a ratio.
        churn_high: S_max, a ratio.
        churn_noise: S_noise.
    """

    share: float = attrs.field(default=1.0, validator=[gt(0), le(1)])
    corrects: bool = True
    grid: Grid = "rho"
    rho: float = attrs.field(default=7.0, validator=gt(0))
    t_end: float = attrs.field(default=1e-3, validator=gt(0))
    churn: float = attrs.field(default=0.0, validator=ge(0))
    churn_low: float = attrs.field(default=0.0, validator=ge(0))
    churn_high: float = attrs.field(default=1e9, validator=gt(0))
    churn_noise: float = attrs.field(default=1.0, validator=ge(0))

    def __attrs_post_init__(self) -> None:
        refuse_empty_churn(self.churn_low, self.churn_high)

    @property
    def order(self) -> int:
        return 2 if self.corrects else 1

    def check(self, schedule: Schedule, steps: int) -> None:
        schedule.g2(schedule.t_max)  # says so where there is none

    def times(self, schedule: Schedule, steps: int) -> list[float]:
        return to_clean(self.grid, schedule, steps, self.t_end, self.rho)

    def calls(self, steps: int) -> list[int]:
        return [2 if self.corrects else 1] * (steps - 1) + [1]

    def init(self, times: Sequence[float]) -> int:
        return len(times) - 1

    def step(
        self, denoise: Denoise, schedule: Schedule, x_t: "Tensor", t: float, s: float, memory: int, noise: Noise
    ) -> "tuple[Tensor, int]":
        ratio = schedule.ratio(t)
        if self.churn > 0 and self.churn_low <= ratio <= self.churn_high:
            raised = ratio * (1 + min(self.churn / memory, math.sqrt(2) - 1))
            up = schedule.t_of_ratio(raised)
            added = math.sqrt(max(schedule.ratio(up) ** 2 - ratio**2, 0.0)) * schedule.alpha(up) * self.churn_noise
            x_t = schedule.alpha(up) / schedule.alpha(t) * x_t + added * noise(x_t, t, s)
            t = up

        def slope(x: "Tensor", u: float) -> "Tensor":
            pace = schedule.g2(u) / (2 * schedule.sigma(u) ** 2)
            return (schedule.f(u) + pace) * x - pace * schedule.alpha(u) * denoise(x, u)

        h, first = s - t, slope(x_t, t)
        if s == 0 or not self.corrects:
            return x_t + h * first, memory
        second = slope(x_t + self.share * h * first, s if self.share == 1 else t + self.share * h)
        weight = 1 / (2 * self.share)
        return x_t + h * ((1 - weight) * first + weight * second), memory
