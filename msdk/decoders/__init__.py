"""Decoders: features of an encoder in, one prediction out."""

from typing import TYPE_CHECKING

from msdk.registry import Kind, Registry

if TYPE_CHECKING:
    from msdk.decoders.base import Decoder

registry: "Registry[Decoder]" = Registry(
    Kind(
        name="decoders",
        base="msdk.decoders.base:Decoder",
        laws="msdk.testing.decoders:LAWS",
        template="msdk.authoring.templates.decoder:MyDecoder",
        imports=(
            "layers",
            "encoders.base",
        ),
    ),
    {
        "adm": "msdk.decoders.adm:ADM",
        "ddpm": "msdk.decoders.score_sde:DDPM",
        "ddpmpp": "msdk.decoders.score_sde:DDPMpp",
        "dit": "msdk.decoders.dit:DiT",
        "iunet": "msdk.decoders.iunet:IUNet",
        "ldm": "msdk.decoders.ldm:LDM",
        "ncsnpp": "msdk.decoders.score_sde:NCSNpp",
        "song-ddpmpp": "msdk.decoders.song:SongDDPMpp",
        "song-ncsnpp": "msdk.decoders.song:SongNCSNpp",
        "subspace": "msdk.decoders.subspace:Subspace",
        "uvit": "msdk.decoders.uvit:UViT",
    },
)
add, get, names, origin = registry.add, registry.get, registry.names, registry.origin
