"""diffusers' DDPMScheduler."""

from golden_samplers import Settings, Setup
from golden_samplers.guided_ddpm import BETAS
from golden_samplers.ldm_ddim import label
from msdk.samplers.ddpm import DDPM


def setup(case: Settings) -> Setup:
    sampler = DDPM(
        grid=case.one("spacing", {name: name for name in ("leading", "linspace", "trailing")}),
        variance=case.one("variance", {"fixed_small": "small", "fixed_large": "large"}),
    )
    return Setup(schedule=case.one("betas", BETAS), sampler=sampler, steps=case.number("steps"), label=label)
