"""Samplers: how to go from noise to an image with few network calls."""

from msdk.registry import Registry

registry: Registry[object] = Registry(
    "samplers",
    {
        "ddim": "msdk.samplers.ddim:DDIM",
        "dpmpp-2m": "msdk.samplers.dpmpp:DPMpp2M",
        "heun": "msdk.samplers.heun:Heun",
    },
    base="msdk.samplers.base:Sampler",
)
add, get, names, origin = registry.add, registry.get, registry.names, registry.origin
