"""Decoders: features of an encoder in, one prediction out."""

from typing import TYPE_CHECKING

from msdk.registry import Registry

if TYPE_CHECKING:
    from msdk.decoders.base import Decoder

registry: "Registry[Decoder]" = Registry(
    "decoders",
    {
        "ddpmpp": "msdk.decoders.score_sde:DDPMpp",
    },
    base="msdk.decoders.base:Decoder",
)
add, get, names, origin = registry.add, registry.get, registry.names, registry.origin
