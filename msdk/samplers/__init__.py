"""Samplers: how to go from noise to an image with few network calls."""

from typing import TYPE_CHECKING

from msdk.registry import Registry

if TYPE_CHECKING:
    from msdk.samplers.base import Sampler

registry: "Registry[Sampler]" = Registry(
    "samplers",
    {
        "ddim": "msdk.samplers.ddim:DDIM",
        "dpm-adaptive": "msdk.samplers.dpm_solver:DPMAdaptive",
        "dpm-multistep": "msdk.samplers.dpm_multistep:DPMMultistep",
        "dpm-solver": "msdk.samplers.dpm_solver:DPMSolver",
        "dpmpp-2m": "msdk.samplers.dpm_multistep:DPMpp2M",
        "dpmpp-3m": "msdk.samplers.dpm_multistep:DPMpp3M",
        "heun": "msdk.samplers.heun:Heun",
        "unipc": "msdk.samplers.unipc:UniPC",
    },
    base="msdk.samplers.base:Sampler",
)
add, get, names, origin = registry.add, registry.get, registry.names, registry.origin
