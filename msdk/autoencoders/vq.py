"""The vector-quantised autoencoder of latent diffusion."""

from typing import TYPE_CHECKING

import attrs
from attrs.validators import ge

from msdk.autoencoders.conv import ConvAutoencoder
from msdk.encoders.base import Shape

if TYPE_CHECKING:
    from torch import nn


@attrs.frozen(kw_only=True)
class VQ(ConvAutoencoder):
    """Latents that decoding snaps to the nearest of a table of codes; the defaults are VQ-f4, of LDM's CelebA-HQ model.

    Diffusion works on the latents before they are quantised, so quantising is part of the decoder.
    The other fields are those of `msdk.autoencoders.conv.ConvAutoencoder`.
    Source: Rombach et al. 2022, arXiv 2112.10752; van den Oord et al. 2017, arXiv 1711.00937.

    Args:
        codes: Number of codes.
    """

    codes: int = attrs.field(default=8192, validator=ge(1))

    def build(self, shape: Shape) -> "nn.Module":
        from msdk.autoencoders.vq_net import VQNet

        self.latent_shape(shape)
        return VQNet(self, shape)
