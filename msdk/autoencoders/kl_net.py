"""The network of the autoencoder with Gaussian latents."""

from jaxtyping import Float
from torch import Tensor, nn

from msdk.autoencoders.conv_net import DecoderNet, EncoderNet
from msdk.autoencoders.kl import KL
from msdk.encoders.base import Shape
from msdk.layers.conv import Conv2d


class KLNet(nn.Module):
    """See `msdk.autoencoders.kl.KL`."""

    def __init__(self, spec: KL, shape: Shape) -> None:
        super().__init__()
        init = spec.style().init
        self.scale = spec.scale
        self.encoder = EncoderNet(spec, shape[0], 2 * spec.z_channels)
        self.to_latent = Conv2d(2 * spec.z_channels, 2 * spec.latent_channels, 1, init=init)
        self.from_latent = Conv2d(spec.latent_channels, spec.z_channels, 1, init=init)
        self.decoder = DecoderNet(spec, shape[0])

    def posterior(
        self, x: Float[Tensor, "batch c h w"]
    ) -> tuple[Float[Tensor, "batch d h2 w2"], Float[Tensor, "batch d h2 w2"]]:
        """Mean and log-variance of the latents of images in [-1, 1]; the latter is kept inside [-30, 20]."""
        mean, log_variance = self.to_latent(self.encoder(x)).chunk(2, dim=1)
        return mean, log_variance.clamp(-30.0, 20.0)

    def encode(self, x: Float[Tensor, "batch c h w"]) -> Float[Tensor, "batch d h2 w2"]:
        """The mean of the latents."""
        return self.posterior(x)[0]

    def decode(self, h: Float[Tensor, "batch c h w"]) -> Float[Tensor, "batch d h2 w2"]:
        """Latents to images, nominally in [-1, 1]."""
        return self.decoder(self.from_latent(h))

    @staticmethod
    def sample(
        mean: Float[Tensor, "batch d h w"],
        log_variance: Float[Tensor, "batch d h w"],
        noise: Float[Tensor, "batch d h w"],
    ) -> Float[Tensor, "batch d h w"]:
        """Latents mean + exp(log_variance / 2) noise, for standard normal noise."""
        return mean + (log_variance / 2).exp() * noise

    @staticmethod
    def kl(mean: Float[Tensor, "batch d h w"], log_variance: Float[Tensor, "batch d h w"]) -> Float[Tensor, " batch"]:
        """Divergence of each image's Gaussian from N(0, I): 0.5 sum(mean^2 + variance - 1 - log variance).

        Source: Kingma and Welling 2014, arXiv 1312.6114, appendix B.
        """
        return (mean.square() + log_variance.exp() - 1 - log_variance).sum(dim=(1, 2, 3)) / 2
