"""How the learning rate goes over training."""

from typing import TYPE_CHECKING

from msdk.registry import Registry

if TYPE_CHECKING:
    from msdk.lr_schedules.base import LRSchedule

registry: "Registry[LRSchedule]" = Registry(
    "lr_schedules",
    {
        "constant": "msdk.lr_schedules.constant:Constant",
        "cosine": "msdk.lr_schedules.cosine:Cosine",
    },
    base="msdk.lr_schedules.base:LRSchedule",
)
add, get, names, origin = registry.add, registry.get, registry.names, registry.origin
