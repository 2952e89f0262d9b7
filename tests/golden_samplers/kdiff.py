"""k-diffusion's samplers."""

from typing import Any

from golden_samplers import NotExpressedError, Settings, Setup
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
ADAPTIVE = {key: key for key in ("order", "rtol", "atol")}
OPTIONS = {
    "eta": "eta",
    "s_noise": "scale",
    "s_churn": "churn",
    "s_tmin": "churn_low",
    "s_tmax": "churn_high",
    "order": "order",
    "solver_type": "derivative",
}


def setup(case: Settings) -> Setup:
    schedule, name, options, count = EDM(sigma_min=0.02), case["sampler"], case.table("kw"), case.number("n")
    if case["sigmas"] not in GRIDS and not isinstance(case["sigmas"], str):
        raise NotExpressedError(f"sigmas = {case['sigmas']}")
    # Of other spacings the vectors say the times.
    named = case["sigmas"] in GRIDS
    if not named and case["sigmas"] not in ("polyexp0.5", "vp"):
        raise NotExpressedError(f"sigmas = {case['sigmas']}")
    same = {"schedule": schedule} if named else {"schedule": schedule, "grid": case.given["grid"]}
    if name == "sample_dpm_fast":
        sampler = DPMSolver(t_end=0.02).spending(count)
        return Setup(schedule=schedule, sampler=sampler, steps=steps_for(sampler, count))
    if name == "sample_dpm_adaptive":
        own = {ours: options.number(key) for key, ours in ADAPTIVE.items() if key in options}
        sampler = DPMAdaptive(**{"t_end": 0.02, "control": "arctan", "order": 3, **own})
        return Setup(schedule=schedule, sampler=sampler, steps=1, times_tolerance=1e-6)
    grid = GRIDS[case["sigmas"]] if named else "rho"
    if name == "sample_dpmpp_2m":
        sampler = DPMpp2M(grid=grid, final_denoise=True, lower_order_final=False)
        return Setup(sampler=sampler, steps=count - 1, **same)
    kind = case.one("sampler", SAMPLERS)
    given: dict[str, Any] = {
        ours: options[key] if key == "solver_type" else options.number(key)
        for key, ours in OPTIONS.items()
        if key in options
    }
    churns = name in ("sample_euler", "sample_heun", "sample_dpm_2")
    if "scale" in given and churns:
        given["churn_noise"] = given.pop("scale")
    return Setup(sampler=kind(grid=grid, **given), steps=count, per_interval=1 if churns else None, **same)
