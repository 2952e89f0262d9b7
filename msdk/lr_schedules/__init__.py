"""How the learning rate goes over training."""

from typing import TYPE_CHECKING

from msdk.registry import Kind, Registry

if TYPE_CHECKING:
    from msdk.lr_schedules.base import LRSchedule

registry: "Registry[LRSchedule]" = Registry(
    Kind(
        name="lr_schedules",
        base="msdk.lr_schedules.base:LRSchedule",
        laws="msdk.testing.lr_schedules:LAWS",
        template="msdk.authoring.templates.lr_schedule:MyLRSchedule",
    ),
    {
        "constant": "msdk.lr_schedules.constant:Constant",
        "cosine": "msdk.lr_schedules.cosine:Cosine",
        "inverse-sqrt": "msdk.lr_schedules.inverse_sqrt:InverseSqrt",
    },
)
add, get, names, origin = registry.add, registry.get, registry.names, registry.origin
