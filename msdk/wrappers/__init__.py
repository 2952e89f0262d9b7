"""Wrappers: what stands between a sampler and the network, and changes the estimate of x_0."""

from typing import TYPE_CHECKING

from msdk.registry import Kind, Registry

if TYPE_CHECKING:
    from msdk.wrappers.base import Wrapper

registry: "Registry[Wrapper]" = Registry(
    Kind(
        name="wrappers",
        base="msdk.wrappers.base:Wrapper",
        laws="msdk.testing.wrappers:LAWS",
        template="msdk.authoring.templates.wrapper:MyWrapper",
        imports=("samplers.base", *(f"schedules.{name}" for name in ("base", "cld", "pfgm"))),
    ),
    {
        "clip": "msdk.wrappers.clip:Clip",
        "dynamic-threshold": "msdk.wrappers.threshold:DynamicThreshold",
    },
)
add, get, names, origin = registry.add, registry.get, registry.names, registry.origin
