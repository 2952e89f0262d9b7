"""Which noise levels training draws, within the stages that are drawn."""

from typing import TYPE_CHECKING

from msdk.registry import Registry

if TYPE_CHECKING:
    from msdk.noise_levels.base import NoiseLevel

registry: "Registry[NoiseLevel]" = Registry(
    "noise_levels",
    {
        "uniform": "msdk.noise_levels.uniform:Uniform",
        "edm": "msdk.noise_levels.edm:EDM",
    },
    base="msdk.noise_levels.base:NoiseLevel",
)
add, get, names, origin = registry.add, registry.get, registry.names, registry.origin
