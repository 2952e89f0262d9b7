"""How the gradients of the stages become the one gradient of the encoder that they share."""

from typing import TYPE_CHECKING

from msdk.registry import Kind, Registry

if TYPE_CHECKING:
    from msdk.combinations.base import Combination

registry: "Registry[Combination]" = Registry(
    Kind(
        name="combinations",
        base="msdk.combinations.base:Combination",
        laws="msdk.testing.combinations:LAWS",
        template="msdk.authoring.templates.combination:MyCombination",
    ),
    {
        "nash-mtl": "msdk.combinations.nash_mtl:NashMTL",
        "pcgrad": "msdk.combinations.pcgrad:PCGrad",
    },
)
add, get, names, origin = registry.add, registry.get, registry.names, registry.origin
