"""The weight of a noise level in the training loss."""

from msdk.registry import Registry

registry: Registry[object] = Registry(
    "weightings",
    {
        "uniform": "msdk.weightings.uniform:Uniform",
        "edm": "msdk.weightings.edm:EDM",
    },
    base="msdk.weightings.base:Weighting",
)
add, get, names, origin = registry.add, registry.get, registry.names, registry.origin
