"""Autoencoders: the first stage of latent diffusion, between images and the latents that the networks see."""

from typing import TYPE_CHECKING

from msdk.registry import Registry

if TYPE_CHECKING:
    from msdk.autoencoders.base import Autoencoder

registry: "Registry[Autoencoder]" = Registry(
    "autoencoders",
    {
        "kl": "msdk.autoencoders.kl:KL",
        "vq-f4": "msdk.autoencoders.vq:VQ",
    },
    base="msdk.autoencoders.base:Autoencoder",
)
add, get, names, origin = registry.add, registry.get, registry.names, registry.origin
