"""guided-diffusion's ancestral sampling."""

from golden_samplers import NotExpressedError, Settings, Setup
from golden_samplers.ldm_ddim import label
from msdk.samplers.ddpm import DDPM
from msdk.schedules.vp_discrete import VPDiscrete, VPIDDPMCosine, VPScaledLinear

BETAS = {"ddpm": VPDiscrete(), "cosine": VPIDDPMCosine(), "ldm": VPScaledLinear()}


def respacing(case: Settings) -> tuple[str, int]:
    """Grid and number of steps."""
    name = case["respacing"]
    strided = isinstance(name, str) and name.startswith("ddim")
    try:
        return "strided" if strided else "respaced", int(str(name).removeprefix("ddim"))
    except ValueError:
        raise NotExpressedError(f"respacing = {name}") from None


def setup(case: Settings) -> Setup:
    case.only("eta", 0.0)
    grid, steps = respacing(case)
    variance = case.one("var", {"FIXED_SMALL": "small", "FIXED_LARGE": "large"})
    sampler = DDPM(grid=grid, variance=variance, clip=case.flag("clip_denoised"))
    return Setup(schedule=case.one("betas", BETAS), sampler=sampler, steps=steps, label=label)
