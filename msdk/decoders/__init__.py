"""Decoders: features of an encoder in, one prediction out."""

from msdk.registry import Registry

registry: Registry[object] = Registry(
    "decoders",
    {
        "ddpmpp": "msdk.decoders.score_sde:DDPMpp",
    },
    base="msdk.decoders.base:Decoder",
)
add, get, names, origin = registry.add, registry.get, registry.names, registry.origin
