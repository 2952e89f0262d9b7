"""The weight of a noise level in the training loss."""

from typing import TYPE_CHECKING

from msdk.registry import Registry

if TYPE_CHECKING:
    from msdk.weightings.base import Weighting

registry: "Registry[Weighting]" = Registry(
    "weightings",
    {
        "uniform": "msdk.weightings.uniform:Uniform",
        "edm": "msdk.weightings.edm:EDM",
    },
    base="msdk.weightings.base:Weighting",
)
add, get, names, origin = registry.add, registry.get, registry.names, registry.origin
