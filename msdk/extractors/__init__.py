"""What images are compared by: numbers that a trained network makes of them."""

from typing import TYPE_CHECKING

from msdk.registry import Kind, Registry

if TYPE_CHECKING:
    from msdk.extractors.base import Extractor

registry: "Registry[Extractor]" = Registry(
    Kind(
        name="extractors",
        base="msdk.extractors.base:Extractor",
        laws="msdk.testing.extractors:LAWS",
        template="msdk.authoring.templates.extractor:MyExtractor",
        imports=("batch",),  # for `Shape`
    ),
    {
        "digits": "msdk.extractors.digits:Digits",
        "dinov2": "msdk.extractors.dinov2:DINOv2",
        "inception": "msdk.extractors.inception:Inception",
    },
)
add, get, names, origin = registry.add, registry.get, registry.names, registry.origin
