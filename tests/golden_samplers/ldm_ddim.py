"""Latent diffusion's DDIM."""

from golden_samplers import Settings, Setup
from msdk.samplers.ddim import DDIM
from msdk.schedules.vp_discrete import VPDiscrete, VPIDDPMCosine, VPScaledLinear

BETAS = {"ldm": VPScaledLinear(), "ddpm": VPDiscrete(), "cosine": VPIDDPMCosine()}
GRIDS = {"uniform": "ldm-uniform", "quad": "ldm-quadratic"}


def label(t: float) -> float:
    """The number of a step."""
    return round(1000 * t) - 1


def setup(case: Settings) -> Setup:
    case.only("temperature", 1)
    sampler = DDIM(grid=case.one("grid_kind", GRIDS), eta=case.number("eta"))
    return Setup(
        schedule=case.one("betas", BETAS), sampler=sampler, steps=case.number("steps"), label=label, per_interval=1
    )
