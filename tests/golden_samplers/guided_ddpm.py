"""guided-diffusion's ancestral sampling."""

from golden_samplers import Json, Setup
from golden_samplers.ldm_ddim import label
from msdk.samplers.ddpm import DDPM
from msdk.schedules.vp_discrete import VPDiscrete, VPIDDPMCosine

BETAS = {"ddpm": VPDiscrete, "cosine": VPIDDPMCosine}


def setup(case: Json) -> Setup | str:
    variance = {"FIXED_SMALL": "small", "FIXED_LARGE": "large"}[case["var"]]
    sampler = DDPM(grid="linspace", variance=variance, clip=case["clip_denoised"])
    return Setup(schedule=BETAS[case["betas"]](), sampler=sampler, steps=int(case["respacing"]), label=label)
