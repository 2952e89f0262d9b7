"""Decoders: features of an encoder in, one prediction out."""

from typing import TYPE_CHECKING

from msdk.registry import Registry

if TYPE_CHECKING:
    from msdk.decoders.base import Decoder

registry: "Registry[Decoder]" = Registry(
    "decoders",
    {
        "adm": "msdk.decoders.adm:ADM",
        "ddpm": "msdk.decoders.score_sde:DDPM",
        "ddpmpp": "msdk.decoders.score_sde:DDPMpp",
        "dit": "msdk.decoders.dit:DiT",
        "ldm": "msdk.decoders.ldm:LDM",
        "ncsnpp": "msdk.decoders.score_sde:NCSNpp",
        "song-ddpmpp": "msdk.decoders.song:SongDDPMpp",
        "song-ncsnpp": "msdk.decoders.song:SongNCSNpp",
        "uvit": "msdk.decoders.uvit:UViT",
    },
    base="msdk.decoders.base:Decoder",
)
add, get, names, origin = registry.add, registry.get, registry.names, registry.origin
