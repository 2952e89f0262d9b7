"""How weights are averaged over training: what is sampled is an average, which is better than the last weights."""

from typing import TYPE_CHECKING

from msdk.registry import Kind, Registry

if TYPE_CHECKING:
    from msdk.averages.base import Average

registry: "Registry[Average]" = Registry(
    Kind(
        name="averages",
        base="msdk.averages.base:Average",
        laws="msdk.testing.averages:LAWS",
        template="msdk.authoring.templates.average:MyAverage",
    ),
    {
        "half-life": "msdk.averages.half_life:HalfLife",
        "power": "msdk.averages.power:Power",
        "ramped": "msdk.averages.ramped:Ramped",
    },
)
add, get, names, origin = registry.add, registry.get, registry.names, registry.origin
