"""Encoders: image and noise level in, features for the decoders out."""

from typing import TYPE_CHECKING

from msdk.registry import Kind, Registry

if TYPE_CHECKING:
    from msdk.encoders.base import Encoder

registry: "Registry[Encoder]" = Registry(
    Kind(
        name="encoders",
        base="msdk.encoders.base:Encoder",
        laws="msdk.testing.encoders:LAWS",
        template="msdk.authoring.templates.encoder:MyEncoder",
        imports=("batch", "layers"),
    ),
    {
        "adm": "msdk.encoders.adm:ADM",
        "ddpm": "msdk.encoders.score_sde:DDPM",
        "ddpmpp": "msdk.encoders.score_sde:DDPMpp",
        "dit": "msdk.encoders.dit:DiT",
        "iunet": "msdk.encoders.iunet:IUNet",
        "ldm": "msdk.encoders.ldm:LDM",
        "ncsnpp": "msdk.encoders.score_sde:NCSNpp",
        "song-ddpmpp": "msdk.encoders.song:SongDDPMpp",
        "song-ncsnpp": "msdk.encoders.song:SongNCSNpp",
        "subspace": "msdk.encoders.subspace:Subspace",
        "uvit": "msdk.encoders.uvit:UViT",
    },
)
add, get, names, origin = registry.add, registry.get, registry.names, registry.origin
