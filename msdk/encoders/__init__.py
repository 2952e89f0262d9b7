"""Encoders: image and noise level in, features for the decoders out."""

from msdk.registry import Registry

registry: Registry[object] = Registry(
    "encoders",
    {
        "ddpmpp": "msdk.encoders.score_sde:DDPMpp",
    },
    base="msdk.encoders.base:Encoder",
)
add, get, names, origin = registry.add, registry.get, registry.names, registry.origin
