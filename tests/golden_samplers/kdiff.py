"""k-diffusion's samplers."""

from golden_samplers import Json, Setup
from msdk.samplers.ddim import DDIM
from msdk.samplers.dpm_multistep import DPMpp2M
from msdk.samplers.heun import Heun
from msdk.schedules.edm import EDM

GRIDS = {"karras7": "rho", "exp": "uniform-lam"}


def setup(case: Json) -> Setup | str:
    if not case["kw"].keys() <= {"eta"} or case["sigmas"] not in GRIDS:
        return "no such option"
    shared = {"grid": GRIDS[case["sigmas"]], "final_denoise": True}
    sampler = {
        "sample_euler": DDIM(**shared),
        "sample_euler_ancestral": DDIM(**shared, eta=case["kw"].get("eta", 1.0)),
        "sample_dpmpp_2m": DPMpp2M(**shared, lower_order_final=False),
        "sample_heun": Heun(grid=GRIDS[case["sigmas"]]),
    }.get(case["sampler"])
    if sampler is None:
        return "no such sampler"
    return Setup(schedule=EDM(sigma_min=0.02), sampler=sampler, steps=case["n"] - (not isinstance(sampler, Heun)))
