"""Latent diffusion's ancestral sampling."""

from golden_samplers import Json, Setup
from golden_samplers.ldm_ddim import label
from msdk.samplers.ddpm import DDPM
from msdk.schedules.vp_discrete import VPScaledLinear


def setup(case: Json) -> Setup | str:
    sampler = DDPM(grid="leading", clip=case["clip_denoised"])
    return Setup(schedule=VPScaledLinear(), sampler=sampler, steps=case["steps"], label=label)
