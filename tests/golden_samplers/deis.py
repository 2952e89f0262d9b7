"""th_deis."""

from golden_samplers import Json, Setup
from msdk.samplers.deis import DEIS, DEISRungeKutta
from msdk.schedules.vp import VPLinear
from msdk.schedules.vp_cosine import VPCosine

GRIDS = {"t": "power-t", "log": "uniform-lam", "rho": "rho"}
VARIANTS = {"t_ab": "t-ab", "rho_ab": "rho-ab"}
TABLEAUS = {"1euler": "euler", "2heun": "heun", "3kutta": "kutta", "4rk": "rk4"}


def setup(case: Json) -> Setup | str:
    if case["sched"] == "ldm":
        return "a table that is read linearly in alpha^2"
    if case.get("coef_kind") == "riemann10000":
        return "coefficients by a Riemann sum, which the exact ones replace"
    schedule = VPLinear() if case["sched"].startswith("lin") else VPCosine(t_end=0.99)
    end = float(case["sched"].removeprefix("lin")) if case["sched"].startswith("lin") else 1e-3
    shared = {"t_end": end, "grid": GRIDS[case["phase"]], "rho": float(case["ts_order"])}
    if case["method"] == "rho_rk":
        sampler = DEISRungeKutta(**shared, method=TABLEAUS[case["rk"]])
    elif case["method"] == "ipndm":
        sampler = DEIS(**shared, variant="ipndm", order=4)
    else:
        sampler = DEIS(**shared, variant=VARIANTS[case["method"]], order=case["ab_order"] + 1)
    return Setup(schedule=schedule, sampler=sampler, steps=case["steps"], scale=1.0)
