"""Wrappers: what stands between a sampler and the network, and changes the estimate of x_0."""

from typing import TYPE_CHECKING

from msdk.registry import Registry

if TYPE_CHECKING:
    from msdk.wrappers.base import Wrapper

registry: "Registry[Wrapper]" = Registry(
    "wrappers",
    {
        "clip": "msdk.wrappers.clip:Clip",
        "dynamic-threshold": "msdk.wrappers.threshold:DynamicThreshold",
    },
    base="msdk.wrappers.base:Wrapper",
)
add, get, names, origin = registry.add, registry.get, registry.names, registry.origin
