"""diffusers' DDPMScheduler."""

from golden_samplers import Json, Setup
from golden_samplers.guided_ddpm import BETAS
from golden_samplers.ldm_ddim import label
from msdk.samplers.ddpm import DDPM


def setup(case: Json) -> Setup | str:
    sampler = DDPM(grid=case["spacing"], variance=case["variance"].removeprefix("fixed_"))
    return Setup(schedule=BETAS[case["betas"]](), sampler=sampler, steps=case["steps"], label=label)
