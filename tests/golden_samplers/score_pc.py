"""score_sde's predictor-corrector samplers."""

from typing import Any

from golden_samplers import NotExpressedError, Settings, Setup
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


CORRECTORS = {name: name for name in ("langevin", "ald", "none")}


def process(name: object) -> tuple[Schedule, dict[str, Any]]:
    """The SDE, and what its network is fed."""
    if name == "ve":
        return VE(), {"label": VE().sigma, "scale": 50.0}
    if name not in ("vp", "subvp"):
        raise NotExpressedError(f"sde = {name}")
    return VPLinear() if name == "vp" else SubVP(), {"label": lambda t: 999 * t, "scale": 1.0}


def setup(case: Settings) -> Setup:
    schedule, same = process(case["sde"])
    predictor, corrector = case.one("predictor", PREDICTORS), case.one("corrector", CORRECTORS)
    if not case.flag("denoise"):
        raise NotExpressedError("a last step with its noise")
    corrections = case.number("n_steps")
    sampler = PredictorCorrector(
        predictor=predictor,
        corrector=corrector,
        snr=float(case.number("snr")),
        corrections=corrections,
        probability_flow=case.flag("probability_flow"),
        norm="batch",
        t_end=case.number("eps"),
    )
    # The program draws for every update, be the noise used or not.
    draws = (corrections if corrector != "none" else 0) + (predictor != "none")
    return Setup(schedule=schedule, sampler=sampler, steps=case.number("N"), per_interval=draws, **same)
