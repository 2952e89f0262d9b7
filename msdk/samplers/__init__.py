"""Samplers: how to go from noise to an image with few network calls."""

from typing import TYPE_CHECKING

from msdk.registry import Registry

if TYPE_CHECKING:
    from msdk.samplers.base import Sampler

registry: "Registry[Sampler]" = Registry(
    "samplers",
    {
        "ddim": "msdk.samplers.ddim:DDIM",
        "dpm-solver": "msdk.samplers.dpm_solver:DPMSolver",
        "dpmpp-2m": "msdk.samplers.dpmpp:DPMpp2M",
        "heun": "msdk.samplers.heun:Heun",
    },
    base="msdk.samplers.base:Sampler",
)
add, get, names, origin = registry.add, registry.get, registry.names, registry.origin
