"""The official DPM_Solver program."""

from golden_samplers import Json, Setup
from msdk.samplers.base import steps_for
from msdk.samplers.ddim import DDIM
from msdk.samplers.dpm_solver import DPMSolver
from msdk.samplers.dpmpp import DPMpp2M
from msdk.schedules.vp import VPLinear

GRIDS = {"logSNR": "uniform-lam", "time_uniform": "uniform-t", "time_quadratic": "quadratic-t"}


def setup(case: Json) -> Setup | str:
    if not case["sched"].startswith("lin"):
        return "only the linear schedule is here"
    if "solver_type" in case or "dynamic_thresholding" in case or case["method"] == "adaptive":
        return "no such option"
    shared = {
        "grid": GRIDS[case["skip"]],
        "t_end": float(case["sched"].removeprefix("lin")),
        "final_denoise": bool(case["dtz"]),
    }
    if case["method"] != "multistep":
        if case["alg"] == "dpmsolver++":
            return "no singlestep DPM-Solver++"
        fixed = case["method"] == "singlestep_fixed"
        sampler = DPMSolver(**shared, order=case["order"], last_orders=() if fixed else None)
        sampler = sampler if fixed else sampler.spending(case["nfe"])
        return Setup(schedule=VPLinear(), sampler=sampler, steps=steps_for(sampler, case["nfe"]))
    if case["order"] == 1:  # DPM-Solver-1, in either prediction, is DDIM
        return Setup(schedule=VPLinear(), sampler=DDIM(**shared), steps=case["steps"])
    if case["order"] == 2 and case["alg"] == "dpmsolver++":
        sampler = DPMpp2M(**shared, lower_order_final=bool(case["lof"]))
        return Setup(schedule=VPLinear(), sampler=sampler, steps=case["steps"])
    return "no such multistep method"
