"""Latent diffusion's PLMS."""

from golden_samplers import Json, Setup
from golden_samplers.ldm_ddim import GRIDS, label
from msdk.samplers.ddpm import PLMS
from msdk.schedules.vp_discrete import VPScaledLinear


def setup(case: Json) -> Setup | str:
    sampler = PLMS(grid=GRIDS[case["grid_kind"]])
    return Setup(schedule=VPScaledLinear(), sampler=sampler, steps=case["steps"], label=label)
