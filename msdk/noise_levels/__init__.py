"""Which noise levels training draws, within the stages that are drawn."""

from msdk.registry import Registry

registry: Registry[object] = Registry(
    "noise_levels",
    {
        "uniform": "msdk.noise_levels.uniform:Uniform",
        "edm": "msdk.noise_levels.edm:EDM",
    },
    base="msdk.noise_levels.base:NoiseLevel",
)
add, get, names, origin = registry.add, registry.get, registry.names, registry.origin
