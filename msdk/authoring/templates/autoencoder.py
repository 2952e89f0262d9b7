"""An autoencoder: images to latents and back, trained before the diffusion model and frozen in it."""

from typing import TYPE_CHECKING

import attrs
from attrs.validators import ge

from msdk.autoencoders.base import Autoencoder
from msdk.encoders.base import Shape
from msdk.errors import PartError

if TYPE_CHECKING:
    from torch import nn


@attrs.frozen(kw_only=True)
class MyAutoencoder(Autoencoder):
    """One strided convolution down, and one up.

    Args:
        channels: Channels of the latents.
        scale: Factor that brings latents to unit variance; measure it on your data.
    """

    channels: int = attrs.field(default=4, validator=ge(1))
    scale: float = 1.0

    def latent_shape(self, shape: Shape) -> Shape:
        _, height, width = shape
        if height % 2 or width % 2:
            raise PartError(f"an image of {height}x{width} cannot be halved: its sides have to be even")
        return self.channels, height // 2, width // 2

    def build(self, shape: Shape) -> "nn.Module":
        # Imported here, not above: recipes are checked without torch, in a fraction of a second.
        from msdk.authoring.templates.autoencoder_network import MyAutoencoderNet

        return MyAutoencoderNet(shape[0], self.channels, self.scale)
