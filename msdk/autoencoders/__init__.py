"""Autoencoders: the first stage of latent diffusion, between images and the latents that the networks see."""

from typing import TYPE_CHECKING

from msdk.registry import Kind, Registry

if TYPE_CHECKING:
    from msdk.autoencoders.base import Autoencoder

registry: "Registry[Autoencoder]" = Registry(
    Kind(
        name="autoencoders",
        base="msdk.autoencoders.base:Autoencoder",
        laws="msdk.testing.autoencoders:LAWS",
        template="msdk.authoring.templates.autoencoder:MyAutoencoder",
        imports=(
            "layers",
            "encoders.base",
        ),
    ),
    {
        "kl": "msdk.autoencoders.kl:KL",
        "vq-f4": "msdk.autoencoders.vq:VQ",
    },
)
add, get, names, origin = registry.add, registry.get, registry.names, registry.origin
