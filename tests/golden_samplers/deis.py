"""th_deis."""

import bisect
import itertools
import math
import operator

import attrs

from golden_samplers import Settings, Setup
from golden_samplers.dpm import linear_end
from msdk.samplers.deis import DEIS, DEISRungeKutta
from msdk.schedules.base import Schedule
from msdk.schedules.vp import VPLinear

GRIDS = {"t": "power-t", "log": "uniform-lam", "rho": "rho"}
VARIANTS = {"t_ab": "t-ab", "rho_ab": "rho-ab"}
QUADRATURES = {"exact": "exact", "riemann10000": "riemann"}
TABLEAUS = {"1euler": "euler", "2heun": "heun", "3kutta": "kutta", "4rk": "rk4"}


KEPT = tuple(
    itertools.accumulate(
        (1 - (0.0015**0.5 + k / 999 * (0.0195**0.5 - 0.0015**0.5)) ** 2 for k in range(1000)), operator.mul
    )
)
"""alpha^2 at the labels of LDM's table."""


@attrs.frozen
class Cosine(Schedule):
    """alpha = cos(pi/2 (t + 0.008) / 1.008), which is not 1 at t = 0."""

    t_min = 0.0
    t_max = 0.99
    prior_std = 1.0

    def angle(self, t: float) -> float:
        return math.pi / 2 * (t + 0.008) / 1.008

    def alpha(self, t: float) -> float:
        return math.cos(self.angle(t))

    def sigma(self, t: float) -> float:
        return math.sin(self.angle(t))

    def f(self, t: float) -> float:
        return -math.tan(self.angle(t)) * math.pi / 2 / 1.008

    def g2(self, t: float) -> float:
        return -2 * self.f(t)

    def t_of_ratio(self, ratio: float) -> float:
        return math.atan(ratio) * 2 / math.pi * 1.008 - 0.008


@attrs.frozen
class Table(Schedule):
    """alpha^2 of LDM's table, linear between the labels 0 .. 999, which are the time."""

    t_min = 0.0
    t_max = 999.0
    prior_std = 1.0

    def part(self, t: float) -> tuple[int, float]:
        first = min(int(t), 998)
        return first, t - first

    def square(self, t: float) -> float:
        first, share = self.part(t)
        return KEPT[first] + share * (KEPT[first + 1] - KEPT[first])

    def alpha(self, t: float) -> float:
        return math.sqrt(self.square(t))

    def sigma(self, t: float) -> float:
        return math.sqrt(1 - self.square(t))

    def f(self, t: float) -> float:
        first, _ = self.part(t)
        return (KEPT[first + 1] - KEPT[first]) / (2 * self.square(t))

    def g2(self, t: float) -> float:
        return -2 * self.f(t)

    def kinks(self, low: float, high: float) -> list[float]:
        return [float(label) for label in range(math.floor(low) + 1, math.ceil(high))]

    def t_of_ratio(self, ratio: float) -> float:
        square = 1 / (1 + ratio**2)
        first = min(max(bisect.bisect_right(KEPT, -square, key=lambda kept: -kept) - 1, 0), 998)
        return first + (square - KEPT[first]) / (KEPT[first + 1] - KEPT[first])


def process(name: object) -> tuple[Schedule, float]:
    """Schedule and end of the grid."""
    if name == "cos":
        return Cosine(), 1e-3
    if name == "ldm":
        return Table(), 1e-300
    return VPLinear(), linear_end(name)


def setup(case: Settings) -> Setup:
    schedule, end = process(case["sched"])
    shared = {"t_end": end, "grid": case.one("phase", GRIDS), "rho": float(case.number("ts_order"))}
    method = case["method"]
    if method == "rho_rk":
        sampler = DEISRungeKutta(**shared, method=case.one("rk", TABLEAUS))
        case.only("ab_order", None)
    elif method == "ipndm":
        sampler = DEIS(**shared, variant="ipndm", order=int(case.number("ab_order", 3)) + 1)
    else:
        variant, order = case.one("method", VARIANTS), case.number("ab_order") + 1
        sampler = DEIS(**shared, variant=variant, order=order, quadrature=case.one("coef_kind", QUADRATURES))
    return Setup(schedule=schedule, sampler=sampler, steps=case.number("steps"), scale=1.0)
