"""Samplers in y = x / alpha and r = sigma / alpha, where every schedule is the same: dy / dr = (y - x_0) / r.

It is EDM's view (Karras et al. 2022, arXiv 2206.00364) and k-diffusion's; r is their sigma.
"""

import abc
import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import attrs
from attrs.validators import ge, gt

from msdk.errors import PartError
from msdk.samplers.base import Denoise, Noise, Sampler
from msdk.samplers.grids import Grid, to_clean
from msdk.schedules.base import Schedule

if TYPE_CHECKING:
    from torch import Tensor

Estimate = Callable[["Tensor", float], "Tensor"]
"""`estimate(y, r)`: x_0."""

Draw = Callable[["Tensor", float, float], "Tensor"]
"""`draw(y, a, b)`: standard normal noise for the way from ratio a to ratio b."""


@attrs.frozen(kw_only=True)
class RatioSampler(Sampler):
    """A sampler whose grid has `steps` nodes above 0 and then the clean image, r = 0.

    Args:
        grid: How the times are spaced, see `msdk.samplers.grids`.
        rho: Exponent of the "rho" grid.
        t_end: Last time above 0; the schedule's `t_min` if that is larger.
    """

    grid: Grid = "rho"
    rho: float = attrs.field(default=7.0, validator=gt(0))
    t_end: float = attrs.field(default=1e-3, validator=gt(0))

    def times(self, schedule: Schedule, steps: int) -> list[float]:
        return to_clean(self.grid, schedule, steps, self.t_end, self.rho)

    def calls(self, steps: int) -> list[int]:
        return [1] * steps

    def init(self, times: Sequence[float]) -> Any:
        return None

    def step(
        self, denoise: Denoise, schedule: Schedule, x_t: "Tensor", t: float, s: float, memory: Any, noise: Noise
    ) -> "tuple[Tensor, Any]":
        a, b = schedule.ratio(t), schedule.ratio(s) if s else 0.0

        def time(r: float) -> float:
            # The ends are known exactly; the inverse of a schedule may round.
            return t if r == a else s if r == b else schedule.t_of_ratio(r)

        def estimate(y: "Tensor", r: float) -> "Tensor":
            return denoise(schedule.alpha(time(r)) * y, time(r))

        def draw(y: "Tensor", first: float, last: float) -> "Tensor":
            return noise(y, time(first), time(last))

        y, memory = self.move(estimate, x_t / schedule.alpha(t), a, b, memory, draw)
        return (schedule.alpha(s) * y if s else y), memory

    @abc.abstractmethod
    def move(
        self, estimate: Estimate, y: "Tensor", a: float, b: float, memory: Any, draw: Draw
    ) -> "tuple[Tensor, Any]":
        """Goes from ratio a down to b, which is 0 for the clean image: returns y there and the memory."""


@attrs.frozen(kw_only=True)
class Churn(RatioSampler):
    """A deterministic sampler that may add noise before each step: r rises to r (1 + gamma).

    gamma = min(churn / steps, sqrt(2) - 1) where churn_low <= r <= churn_high, else 0. A step that is churned adds
    churn_noise sqrt(r'^2 - r^2) z. Source: Karras et al. 2022, arXiv 2206.00364, Algorithm 2.

    Args:
        churn: S_churn; 0 adds nothing.
        churn_low: S_min, a ratio.
        churn_high: S_max, a ratio.
        churn_noise: S_noise.
    """

    churn: float = attrs.field(default=0.0, validator=ge(0))
    churn_low: float = attrs.field(default=0.0, validator=ge(0))
    churn_high: float = attrs.field(default=1e9, validator=gt(0))
    churn_noise: float = attrs.field(default=1.0, validator=ge(0))

    def __attrs_post_init__(self) -> None:
        refuse_empty_churn(self.churn_low, self.churn_high)

    def init(self, times: Sequence[float]) -> int:
        return len(times) - 1

    def raised(self, y: "Tensor", a: float, b: float, steps: int, draw: Draw) -> "tuple[Tensor, float]":
        """Y and r after churning."""
        inside = self.churn > 0 and self.churn_low <= a <= self.churn_high
        up = a * (1 + min(self.churn / steps, math.sqrt(2) - 1)) if inside else a
        if up == a:
            return y, a
        return y + math.sqrt(up**2 - a**2) * self.churn_noise * draw(y, a, b), up


def refuse_empty_churn(low: float, high: float) -> None:
    """Raises `PartError` where no ratio is churned: nearly always both were swapped."""
    if low > high:
        raise PartError(f"churn_low = {low} must not be above churn_high = {high}")


def ancestral(a: float, b: float, eta: float) -> tuple[float, float]:
    """(down, up): where a deterministic step from a must end for noise of standard deviation up to make b of it."""
    up = min(b, eta * math.sqrt(max(b**2 * (a**2 - b**2), 0.0)) / a)
    return math.sqrt(b**2 - up**2), up


def euler(y: "Tensor", x_0: "Tensor", a: float, b: float) -> "Tensor":
    """A step of the ODE with the slope at a."""
    return x_0 if b == 0 else y + (b / a - 1) * (y - x_0)
