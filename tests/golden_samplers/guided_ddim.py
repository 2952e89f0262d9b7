"""guided-diffusion's DDIM."""

from golden_samplers import Settings, Setup
from golden_samplers.guided_ddpm import BETAS, respacing
from golden_samplers.ldm_ddim import label
from msdk.samplers.ddim import DDIM
from msdk.wrappers.clip import Clip


def setup(case: Settings) -> Setup:
    case.only("var", None)
    grid, steps = respacing(case)
    sampler, schedule = DDIM(grid=grid, eta=case.number("eta")), case.one("betas", BETAS)
    wrap = {"wrap": lambda denoise: Clip().around(denoise, schedule)} if case.flag("clip_denoised") else {}
    return Setup(schedule=schedule, sampler=sampler, steps=steps, label=label, per_interval=1, **wrap)
