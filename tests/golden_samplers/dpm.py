"""The official DPM_Solver program."""

from typing import Any

from golden_samplers import NotExpressedError, Settings, Setup
from msdk.samplers.base import steps_for
from msdk.samplers.dpm_multistep import DPMMultistep
from msdk.samplers.dpm_solver import DPMAdaptive, DPMSolver
from msdk.schedules.base import Schedule
from msdk.schedules.vp import VPLinear
from msdk.schedules.vp_cosine import VPCosine
from msdk.schedules.vp_discrete import VPScaledLinear
from msdk.wrappers.threshold import DynamicThreshold

GRIDS = {"logSNR": "uniform-lam", "time_uniform": "uniform-t", "time_quadratic": "quadratic-t"}


NETWORKS = {name: name for name in ("noise", "x_start", "v", "score")}
"""What the network predicts: the exact denoiser is the same."""


def linear_end(name: object) -> float:
    """The end of the grid in the name of a linear schedule."""
    try:
        return float(str(name).removeprefix("lin"))
    except ValueError:
        raise NotExpressedError(f"sched = {name}") from None


def process(name: object) -> tuple[Schedule, float, dict[str, Any]]:
    """Schedule, end of the grid, and what the network is fed."""
    if name == "cos":
        return VPCosine(), 1e-3, {}
    if name == "ldm":
        return VPScaledLinear(), 1e-3, {"label": lambda t: 1000 * (t - 1 / 1000)}
    return VPLinear(), linear_end(name), {}


def setup(case: Settings) -> Setup:
    schedule, end, same = process(case["sched"])
    if "model_type" in case:
        case.one("model_type", NETWORKS)
    algorithm = case.one("alg", {name: name for name in ("dpmsolver", "dpmsolver++")})
    shared = {"t_end": end, "final_denoise": case.flag("dtz"), "algorithm": algorithm, "order": case.number("order")}
    method = case["method"]
    if method == "adaptive":
        sampler = DPMAdaptive(**shared, atol=case.number("atol"), rtol=case.number("rtol"))
        return Setup(schedule=schedule, sampler=sampler, steps=1, times_tolerance=1e-6, **same)
    if "dynamic_thresholding" in case:
        options = case.table("dynamic_thresholding")
        threshold = DynamicThreshold(ratio=options.number("ratio"), least=options.number("max_val"))
        same["wrap"] = lambda denoise: threshold.around(denoise, schedule)
    kinds = {name: name for name in ("dpmsolver", "taylor")}
    kind = case.one("solver_type", kinds) if "solver_type" in case else "dpmsolver"
    shared |= {"grid": case.one("skip", GRIDS), "solver_type": kind}
    steps, lower = case.number("steps"), case.flag("lof")
    if method == "multistep":
        sampler = DPMMultistep(**shared, lower_order_final=lower)
        return Setup(schedule=schedule, sampler=sampler, steps=steps, **same)
    fixed = case.one("method", {"singlestep_fixed": True, "singlestep": False})
    calls = case.given["nfe"]
    sampler = DPMSolver(**shared, last_orders=() if fixed else None)
    sampler = sampler if fixed else sampler.spending(calls)
    return Setup(schedule=schedule, sampler=sampler, steps=steps_for(sampler, calls), **same)
