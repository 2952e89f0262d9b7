"""Latent diffusion's ancestral sampling."""

from golden_samplers import Settings, Setup
from golden_samplers.ldm_ddim import BETAS, label
from msdk.samplers.ddpm import DDPM


def setup(case: Settings) -> Setup:
    case.only("steps", 1000)
    sampler = DDPM(grid="leading", clip=case.flag("clip_denoised"))
    return Setup(schedule=case.one("betas", BETAS), sampler=sampler, steps=1000, label=label)
