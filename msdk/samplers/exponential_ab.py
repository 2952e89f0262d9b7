"""Exponential Adams-Bashforth in four variables, of which each is straight for another kind of prediction."""

import functools
import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Literal

import attrs
from attrs.validators import ge, le

from msdk.samplers.multistep import History, OneCallMultistep
from msdk.samplers.quadrature import gauss_between, polynomial_weights
from msdk.schedules.base import Schedule

if TYPE_CHECKING:
    from torch import Tensor

Variable = Literal["velocity", "noise", "data", "residual"]

TRAPEZOIDS = 256
"""Intervals in the original's integrals of "residual"."""


@attrs.frozen(kw_only=True)
class ExponentialAB(OneCallMultistep):
    """x_s = scale_s (x_t / scale_t + sum_j w_j p_j): what is predicted, p, is a polynomial through its last values.

    With r = sigma / alpha and U = log r: "velocity" has p = x / sigma - (1 + 1 / r) x_0, scale alpha + sigma, and is a
    polynomial in sigma / (alpha + sigma); "noise" has p = eps, scale alpha, weights of e^U; "data" has p = -x_0,
    scale sigma, weights of e^-U; "residual" has p = (x / (alpha (1 + r^2)) - x_0) sqrt(1 + r^2) / r, scale
    sqrt(alpha^2 + sigma^2), weights of 1 / (2 cosh U). The last three are polynomials in U.
    Source: Rozet et al., azula 0.11, samplers vAB, zEAB, xEAB and REAB; Hochbruck and Ostermann 2010, section 2.5.

    Args:
        order: Predictions that are used, once there are as many.
        variable: What is predicted.
        as_azula: Of "residual", azula's own integrals by 256 trapezoids and its scale at the end of a step, which takes
            sigma from the start of it, so that it is of order 1.
    """

    order: int = attrs.field(default=2, validator=[ge(1), le(4)])
    variable: Variable = "data"
    as_azula: bool = False

    @property
    def convergence(self) -> int:
        return 1 if self.as_azula and self.variable == "residual" else min(self.order, 2)

    def estimate(self, schedule: Schedule, x_t: "Tensor", x_0: "Tensor", t: float, memory: History) -> "Tensor":
        return _prediction(self.variable, x_t, x_0, schedule.alpha(t), schedule.sigma(t))

    def advance(self, schedule: Schedule, x_t: "Tensor", s: float, past: History) -> "Tensor":
        t = past.nodes[0][0]
        places = tuple(_place(self.variable, schedule, u) for u, _ in past.nodes)
        trapezoids = self.as_azula and self.variable == "residual"
        weights = _weights(self.variable, places, _place(self.variable, schedule, s), trapezoids=trapezoids)
        scale = _scale(self.variable, schedule.alpha(s), schedule.sigma(s))
        x_s = scale / _scale(self.variable, schedule.alpha(t), schedule.sigma(t)) * x_t
        if trapezoids:
            scale = _scale(self.variable, schedule.alpha(s), schedule.sigma(t))
        for weight, (_, value) in zip(weights, past.nodes, strict=True):
            x_s = x_s + scale * weight * value
        return x_s


def _prediction(variable: Variable, x: "Tensor", x_0: "Tensor", alpha: float, sigma: float) -> "Tensor":
    if variable == "velocity":
        return x / sigma - (1 + alpha / sigma) * x_0
    if variable == "noise":
        return (x - alpha * x_0) / sigma
    if variable == "data":
        return -x_0
    ratio = sigma / alpha
    root = math.sqrt(1 + ratio * ratio)
    return (x / (alpha * root * root) - x_0) * (root / ratio)


def _scale(variable: Variable, alpha: float, sigma: float) -> float:
    return {"velocity": alpha + sigma, "noise": alpha, "data": sigma, "residual": math.hypot(alpha, sigma)}[variable]


def _place(variable: Variable, schedule: Schedule, t: float) -> float:
    """What the polynomial is in."""
    if variable == "velocity":
        return schedule.sigma(t) / (schedule.alpha(t) + schedule.sigma(t))
    return -schedule.lam(t)


KERNELS: dict[Variable, Callable[[float], float]] = {
    "velocity": lambda place: 1.0,
    "noise": math.exp,
    "data": lambda place: math.exp(-place),
    "residual": lambda place: 1 / (2 * math.cosh(place)),
}


@functools.lru_cache(maxsize=4096)  # every batch of a sampling has the same
def _weights(variable: Variable, nodes: tuple[float, ...], last: float, *, trapezoids: bool) -> tuple[float, ...]:
    """Integrals, from the first node to the last place, of the kernel times the polynomial of each node."""
    first = nodes[0]
    if trapezoids:
        width = (last - first) / TRAPEZOIDS
        rule = [(first + width * k, width / 2 if k in (0, TRAPEZOIDS) else width) for k in range(TRAPEZOIDS + 1)]
    else:
        rule = gauss_between(first, last)
    return polynomial_weights(nodes, ((place, share * KERNELS[variable](place)) for place, share in rule))
