"""guided-diffusion's DDIM."""

from golden_samplers import Json, Setup
from golden_samplers.guided_ddpm import BETAS
from golden_samplers.ldm_ddim import label
from msdk.samplers.ddim import DDIM


def setup(case: Json) -> Setup | str:
    strided = case["respacing"].startswith("ddim")
    sampler = DDIM(grid="leading" if strided else "linspace", eta=case["eta"])
    steps = int(case["respacing"].removeprefix("ddim"))
    return Setup(schedule=BETAS[case["betas"]](), sampler=sampler, steps=steps, label=label, per_interval=1)
