"""score_sde's predictor-corrector samplers."""

from typing import Any

from golden_samplers import Json, Setup
from msdk.samplers.score_sde import PredictorCorrector
from msdk.schedules.base import Schedule
from msdk.schedules.sub_vp import SubVP
from msdk.schedules.ve import VE
from msdk.schedules.vp import VPLinear

PREDICTORS = {
    "euler_maruyama": "euler-maruyama",
    "reverse_diffusion": "reverse-diffusion",
    "ancestral_sampling": "ancestral",
    "none": "none",
}


def process(name: str) -> tuple[Schedule, dict[str, Any]]:
    """The SDE, and what its network is fed."""
    if name == "ve":
        return VE(), {"label": VE().sigma, "scale": 50.0}
    return {"vp": VPLinear, "subvp": SubVP}[name](), {"label": lambda t: 999 * t, "scale": 1.0}


def setup(case: Json) -> Setup | str:
    schedule, same = process(case["sde"])
    sampler = PredictorCorrector(
        predictor=PREDICTORS[case["predictor"]],
        corrector=case["corrector"],
        snr=float(case["snr"]),
        corrections=case["n_steps"],
        probability_flow=case["probability_flow"],
        norm="batch",
        t_end=case["eps"],
    )
    return Setup(schedule=schedule, sampler=sampler, steps=case["N"], **same)
