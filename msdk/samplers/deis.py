"""DEIS: exponential integrators with polynomials through earlier noise estimates, and Runge-Kutta in the ratio."""

import functools
import itertools
import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Literal

import attrs
from attrs.validators import ge, gt, le

from msdk.samplers.base import Denoise, Noise, Sampler
from msdk.samplers.ddpm import ADAMS_BASHFORTH
from msdk.samplers.grids import TO_CLEAN, Grid, time_grid
from msdk.samplers.lms import adams_weights
from msdk.samplers.multistep import History, OneCallMultistep
from msdk.samplers.quadrature import gauss_between, polynomial_weights
from msdk.schedules.base import Schedule

if TYPE_CHECKING:
    from torch import Tensor


@attrs.frozen(kw_only=True)
class DEIS(OneCallMultistep):
    """y_s = y_t + sum_j C_j eps_j in y = x / alpha, where C_j integrates d ratio times a polynomial over the step.

    The polynomial is 1 at node j and 0 at the other last nodes, in time ("t-ab"), in the ratio ("rho-ab"), or that of
    even steps ("ipndm"). Integrals are by Gauss's rule in log ratio on the host, from kink to kink of a table.
    Source: Zhang and Chen 2023, arXiv 2204.13902, Eq. 15 and section 3.3.

    Args:
        order: Estimates that are used, once there are as many; 1 is DDIM.
        variant: In what the polynomial is.
        quadrature: "riemann" sums 10,000 values from the left, as the original program does, with errors of 1e-6 to
            4e-4 that are a part of its samples; only "t-ab" and "rho-ab" integrate.
    """

    order: int = attrs.field(default=3, validator=[ge(1), le(4)])
    variant: Literal["t-ab", "rho-ab", "ipndm"] = "t-ab"
    quadrature: Literal["exact", "riemann"] = "exact"
    grid: Grid = "quadratic-t"

    @property
    def convergence(self) -> int:
        return 1 if self.variant == "ipndm" else min(self.order, 2)

    def check(self, schedule: Schedule, steps: int) -> None:
        super().check(schedule, steps)
        if self.variant == "t-ab" and self.quadrature == "riemann":
            schedule.g2(schedule.t_max)  # says so where there is none

    def estimate(self, schedule: Schedule, x_t: "Tensor", x_0: "Tensor", t: float, memory: History) -> "Tensor":
        return (x_t - schedule.alpha(t) * x_0) / schedule.sigma(t)

    def advance(self, schedule: Schedule, x_t: "Tensor", s: float, past: History) -> "Tensor":
        times = tuple(u for u, _ in past.nodes)
        t, y = times[0], x_t / schedule.alpha(times[0])
        rule = _riemann if self.quadrature == "riemann" else _weights
        for weight, (_, eps) in zip(rule(self.variant, schedule, times, t, s), past.nodes, strict=True):
            y = y + weight * eps
        return schedule.alpha(s) * y


@functools.lru_cache(maxsize=4096)  # every batch of a sampling has the same
def _weights(variant: str, schedule: Schedule, nodes: tuple[float, ...], t: float, s: float) -> Sequence[float]:
    """C_j of every node."""
    first, last = schedule.ratio(t), schedule.ratio(s)
    if variant == "ipndm":
        return [(last - first) * weight for weight in ADAMS_BASHFORTH[len(nodes)]]
    if variant == "rho-ab":
        return adams_weights(tuple(schedule.ratio(u) for u in nodes), first, last)
    return polynomial_weights(nodes, _by_log_ratio(schedule, t, s))


def _by_log_ratio(schedule: Schedule, t: float, s: float) -> Iterator[tuple[float, float]]:
    """Times and weights of a rule for integrals of d ratio: in its logarithm, where nothing is steep at either end."""
    kinks = sorted(schedule.kinks(s, t), reverse=True)
    for begin, end in itertools.pairwise([t, *kinks, s]):
        first, last = -schedule.lam(begin), -schedule.lam(end)
        pieces = max(math.ceil(abs(last - first)), 1)
        width = (last - first) / pieces
        # Between the kinks of a table, where there are many, the pieces are short and few points are exact.
        for piece in range(pieces):
            place = first + piece * width
            for log, share in gauss_between(place, place + width, 8 if kinks else 24):
                yield schedule.t_of_lam(-log), share * math.exp(log)


@functools.lru_cache(maxsize=4096)
def _riemann(variant: str, schedule: Schedule, nodes: tuple[float, ...], t: float, s: float) -> Sequence[float]:
    """C_j of every node by the original's sum."""
    if variant == "ipndm":
        return _weights(variant, schedule, nodes, t, s)
    in_time = variant == "t-ab"
    points = nodes if in_time else tuple(schedule.ratio(u) for u in nodes)
    begin, end = (t, s) if in_time else (schedule.ratio(t), schedule.ratio(s))
    width = (end - begin) / SUMMED
    places = (begin + width * index for index in range(SUMMED))
    return polynomial_weights(points, ((u, width * _pace(schedule, u) if in_time else width) for u in places))


def _pace(schedule: Schedule, t: float) -> float:
    """D ratio / dt = ratio g2 / (2 sigma^2)."""
    return schedule.ratio(t) * schedule.g2(t) / (2 * schedule.sigma(t) ** 2)


SUMMED = 10_000
"""Values in the original's sums."""

TABLEAUS: dict[str, tuple[tuple[tuple[float, ...], ...], tuple[float, ...]]] = {
    "euler": (((),), (1.0,)),
    "heun": (((), (1.0,)), (1 / 2, 1 / 2)),
    "kutta": (((), (1 / 2,), (-1.0, 2.0)), (1 / 6, 2 / 3, 1 / 6)),
    "rk4": (((), (1 / 2,), (0.0, 1 / 2), (0.0, 0.0, 1.0)), (1 / 6, 1 / 3, 1 / 3, 1 / 6)),
}
"""Method -> (rows of weights of earlier slopes, weights of the step)."""


@attrs.frozen(kw_only=True)
class DEISRungeKutta(Sampler):
    """Explicit Runge-Kutta for dy / dr = eps in y = x / alpha and r = sigma / alpha: DEIS's rho-RK.

    Source: Zhang and Chen 2023, arXiv 2204.13902, section 3.3.

    Args:
        method: "euler" (1 call a step), "heun" (2), "kutta" (3) or "rk4" (4).
        grid: How the times are spaced, see `msdk.samplers.grids`.
        rho: Exponent of the "rho" grid.
        t_end: Last time of the grid; the schedule's `t_min` if that is larger.
    """

    method: Literal["euler", "heun", "kutta", "rk4"] = "rk4"
    grid: Grid = "rho"
    rho: float = attrs.field(default=7.0, validator=gt(0))
    t_end: float = attrs.field(default=1e-3, validator=gt(0))

    @property
    def order(self) -> int:
        return len(TABLEAUS[self.method][1])

    def times(self, schedule: Schedule, steps: int) -> list[float]:
        return time_grid(self.grid, schedule, steps, self.t_end, self.rho)

    def calls(self, steps: int) -> list[int]:
        each = len(TABLEAUS[self.method][1])
        return [each] * (steps - 1) + [1 if self.grid in TO_CLEAN else each]

    def init(self, times: Sequence[float]) -> None:
        return None

    def step(
        self, denoise: Denoise, schedule: Schedule, x_t: "Tensor", t: float, s: float, memory: None, noise: Noise
    ) -> "tuple[Tensor, None]":
        if s == 0:
            return denoise(x_t, t), None  # Euler's step to ratio 0, where there are no slopes
        rows, weights = TABLEAUS[self.method]
        first, y = schedule.ratio(t), x_t / schedule.alpha(t)
        change = schedule.ratio(s) - first
        slopes: list[Any] = []
        for row in rows:
            share = sum(row)
            u = t if not row else s if share == 1 else schedule.t_of_ratio(first + share * change)
            inner = y
            for weight, slope in zip(row, slopes, strict=False):
                inner = inner + change * weight * slope if weight else inner
            slopes.append((inner - denoise(schedule.alpha(u) * inner, u)) / schedule.ratio(u))
        for weight, slope in zip(weights, slopes, strict=True):
            y = y + change * weight * slope
        return schedule.alpha(s) * y, None
