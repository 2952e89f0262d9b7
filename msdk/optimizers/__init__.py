"""How training changes weights by their gradients."""

from typing import TYPE_CHECKING

from msdk.registry import Kind, Registry

if TYPE_CHECKING:
    from msdk.optimizers.base import Optimizer

registry: "Registry[Optimizer]" = Registry(
    Kind(
        name="optimizers",
        base="msdk.optimizers.base:Optimizer",
        laws="msdk.testing.optimizers:LAWS",
        template="msdk.authoring.templates.optimizer:MyOptimizer",
    ),
    {
        "adamw": "msdk.optimizers.adamw:AdamW",
        "sgd": "msdk.optimizers.sgd:SGD",
    },
)
add, get, names, origin = registry.add, registry.get, registry.names, registry.origin
