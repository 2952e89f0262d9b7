"""Encoders: image and noise level in, features for the decoders out."""

from typing import TYPE_CHECKING

from msdk.registry import Registry

if TYPE_CHECKING:
    from msdk.encoders.base import Encoder

registry: "Registry[Encoder]" = Registry(
    "encoders",
    {
        "ddpmpp": "msdk.encoders.score_sde:DDPMpp",
    },
    base="msdk.encoders.base:Encoder",
)
add, get, names, origin = registry.add, registry.get, registry.names, registry.origin
