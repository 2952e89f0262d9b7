"""Latent diffusion's PLMS."""

from golden_samplers import Settings, Setup
from golden_samplers.ldm_ddim import BETAS, GRIDS, label
from msdk.samplers.ddpm import PLMS


def setup(case: Settings) -> Setup:
    case.only("temperature", 1)
    case.only("eta", 0)
    sampler = PLMS(grid=case.one("grid_kind", GRIDS))
    return Setup(schedule=case.one("betas", BETAS), sampler=sampler, steps=case.number("steps"), label=label)
