"""The official DPM_Solver program."""

from typing import Any

from golden_samplers import Json, Setup
from msdk.samplers.base import steps_for
from msdk.samplers.dpm_multistep import DPMMultistep
from msdk.samplers.dpm_solver import DPMAdaptive, DPMSolver
from msdk.schedules.base import Schedule
from msdk.schedules.vp import VPLinear
from msdk.schedules.vp_cosine import VPCosine
from msdk.schedules.vp_discrete import VPScaledLinear
from msdk.wrappers.threshold import DynamicThreshold

GRIDS = {"logSNR": "uniform-lam", "time_uniform": "uniform-t", "time_quadratic": "quadratic-t"}


def process(name: str) -> tuple[Schedule, float, dict[str, Any]]:
    """Schedule, end of the grid, and what the network is fed."""
    if name.startswith("lin"):
        return VPLinear(), float(name.removeprefix("lin")), {}
    if name == "cos":
        return VPCosine(), 1e-3, {}
    return VPScaledLinear(), 1e-3, {"label": lambda t: 1000 * (t - 1 / 1000)}


def setup(case: Json) -> Setup | str:
    schedule, end, same = process(case["sched"])
    shared = {"t_end": end, "final_denoise": bool(case["dtz"]), "algorithm": case["alg"]}
    if case["method"] == "adaptive":
        sampler = DPMAdaptive(**shared, order=case["order"], atol=case["atol"], rtol=case["rtol"])
        return Setup(schedule=schedule, sampler=sampler, steps=1, times_tolerance=1e-6, **same)
    if "dynamic_thresholding" in case:
        options = case["dynamic_thresholding"]
        threshold = DynamicThreshold(ratio=options["ratio"], least=options["max_val"])
        same["wrap"] = lambda denoise: threshold.around(denoise, schedule)
    shared |= {"grid": GRIDS[case["skip"]], "order": case["order"], "solver_type": case.get("solver_type", "dpmsolver")}
    if case["method"] == "multistep":
        sampler = DPMMultistep(**shared, lower_order_final=bool(case["lof"]))
        return Setup(schedule=schedule, sampler=sampler, steps=case["steps"], **same)
    fixed = case["method"] == "singlestep_fixed"
    sampler = DPMSolver(**shared, last_orders=() if fixed else None)
    sampler = sampler if fixed else sampler.spending(case["nfe"])
    return Setup(schedule=schedule, sampler=sampler, steps=steps_for(sampler, case["nfe"]), **same)
