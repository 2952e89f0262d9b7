"""th_deis."""

import math

import attrs

from golden_samplers import Json, Setup
from msdk.samplers.deis import DEIS, DEISRungeKutta
from msdk.schedules.base import Schedule
from msdk.schedules.vp import VPLinear

GRIDS = {"t": "power-t", "log": "uniform-lam", "rho": "rho"}
VARIANTS = {"t_ab": "t-ab", "rho_ab": "rho-ab"}
TABLEAUS = {"1euler": "euler", "2heun": "heun", "3kutta": "kutta", "4rk": "rk4"}


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


def setup(case: Json) -> Setup | str:
    if case["sched"] == "ldm":
        return "a table that is read linearly in alpha^2"
    if case.get("coef_kind") == "riemann10000":
        return "coefficients by a Riemann sum, which the exact ones replace"
    schedule = VPLinear() if case["sched"].startswith("lin") else Cosine()
    end = float(case["sched"].removeprefix("lin")) if case["sched"].startswith("lin") else 1e-3
    shared = {"t_end": end, "grid": GRIDS[case["phase"]], "rho": float(case["ts_order"])}
    if case["method"] == "rho_rk":
        sampler = DEISRungeKutta(**shared, method=TABLEAUS[case["rk"]])
    elif case["method"] == "ipndm":
        sampler = DEIS(**shared, variant="ipndm", order=4)
    else:
        sampler = DEIS(**shared, variant=VARIANTS[case["method"]], order=case["ab_order"] + 1)
    return Setup(schedule=schedule, sampler=sampler, steps=case["steps"], scale=1.0)
