"""k-diffusion's samplers."""

from golden_samplers import Json, Setup
from msdk.samplers.base import steps_for
from msdk.samplers.dpm2 import DPM2, DPM2Ancestral
from msdk.samplers.dpm_multistep import DPMpp2M
from msdk.samplers.dpm_solver import DPMAdaptive, DPMSolver
from msdk.samplers.dpmpp_sde import DPMpp2MSDE, DPMpp2SAncestral, DPMpp3MSDE, DPMppSDE
from msdk.samplers.euler import Euler, EulerAncestral
from msdk.samplers.heun import Heun
from msdk.samplers.lms import LMS
from msdk.schedules.edm import EDM

GRIDS = {"karras7": "rho", "exp": "uniform-lam"}
SAMPLERS = {
    "sample_euler": Euler,
    "sample_heun": Heun,
    "sample_dpm_2": DPM2,
    "sample_lms": LMS,
    "sample_euler_ancestral": EulerAncestral,
    "sample_dpm_2_ancestral": DPM2Ancestral,
    "sample_dpmpp_2s_ancestral": DPMpp2SAncestral,
    "sample_dpmpp_sde": DPMppSDE,
    "sample_dpmpp_2m_sde": DPMpp2MSDE,
    "sample_dpmpp_3m_sde": DPMpp3MSDE,
}
OPTIONS = {
    "eta": "eta",
    "s_noise": "scale",
    "s_churn": "churn",
    "s_tmin": "churn_low",
    "s_tmax": "churn_high",
    "order": "order",
    "solver_type": "derivative",
}


def setup(case: Json) -> Setup | str:
    schedule, grid = EDM(sigma_min=0.02), GRIDS[case["sigmas"]]
    if case["sampler"] == "sample_dpm_fast":
        sampler = DPMSolver(t_end=0.02).spending(case["n"])
        return Setup(schedule=schedule, sampler=sampler, steps=steps_for(sampler, case["n"]))
    if case["sampler"] == "sample_dpm_adaptive":
        sampler = DPMAdaptive(**{"t_end": 0.02, "control": "arctan", "order": 3, **case["kw"]})
        return Setup(schedule=schedule, sampler=sampler, steps=1, times_tolerance=1e-6)
    if case["sampler"] == "sample_dpmpp_2m":
        sampler = DPMpp2M(grid=grid, final_denoise=True, lower_order_final=False)
        return Setup(schedule=schedule, sampler=sampler, steps=case["n"] - 1)
    if case["sampler"] not in SAMPLERS:
        return "no such step control"
    options = {OPTIONS[key]: value for key, value in case["kw"].items()}
    churns = case["sampler"] in ("sample_euler", "sample_heun", "sample_dpm_2")
    if "scale" in options and churns:
        options["churn_noise"] = options.pop("scale")
    draws = {"per_interval": 1} if churns else {}
    return Setup(schedule=schedule, sampler=SAMPLERS[case["sampler"]](grid=grid, **options), steps=case["n"], **draws)
