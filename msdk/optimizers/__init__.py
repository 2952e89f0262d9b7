"""How training changes weights by their gradients."""

from typing import TYPE_CHECKING

from msdk.registry import Registry

if TYPE_CHECKING:
    from msdk.optimizers.base import Optimizer

registry: "Registry[Optimizer]" = Registry(
    "optimizers",
    {
        "adamw": "msdk.optimizers.adamw:AdamW",
        "sgd": "msdk.optimizers.sgd:SGD",
    },
    base="msdk.optimizers.base:Optimizer",
)
add, get, names, origin = registry.add, registry.get, registry.names, registry.origin
