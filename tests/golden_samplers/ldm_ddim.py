"""Latent diffusion's DDIM."""

from golden_samplers import Json, Setup
from msdk.samplers.ddim import DDIM
from msdk.schedules.vp_discrete import VPScaledLinear

GRIDS = {"uniform": "ldm-uniform", "quad": "ldm-quadratic"}


def label(t: float) -> float:
    """The number of a step."""
    return round(1000 * t) - 1


def setup(case: Json) -> Setup | str:
    if case["temperature"] != 1:
        return "no temperature"
    sampler = DDIM(grid=GRIDS[case["grid_kind"]], eta=case["eta"])
    return Setup(schedule=VPScaledLinear(), sampler=sampler, steps=case["steps"], label=label, per_interval=1)
