"""The autoencoder of latent diffusion with Gaussian latents."""

from typing import TYPE_CHECKING

import attrs

from msdk.autoencoders.conv import ConvAutoencoder
from msdk.encoders.base import Shape

if TYPE_CHECKING:
    from torch import nn


@attrs.frozen(kw_only=True)
class KL(ConvAutoencoder):
    """Latents that are the mean of a Gaussian, which its training drew towards N(0, I); the defaults are LDM's KL-f4.

    Diffusion is trained on the means, unless `sampled`; LDM draws from the Gaussians, whose deviations are small.
    The other fields are those of `msdk.autoencoders.conv.ConvAutoencoder`.
    Source: Rombach et al. 2022, arXiv 2112.10752; Kingma and Welling 2014, arXiv 1312.6114.

    Args:
        sampled: Whether each step of the diffusion's training draws its latents from their Gaussians, as LDM does.
    """

    sampled: bool = False

    def build(self, shape: Shape) -> "nn.Module":
        from msdk.autoencoders.kl_net import KLNet

        self.latent_shape(shape)
        return KLNet(self, shape)
