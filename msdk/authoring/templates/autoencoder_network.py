"""The network of the autoencoder."""

from torch import Tensor, nn


class MyAutoencoderNet(nn.Module):
    """See `MyAutoencoder`.

    Args:
        colours: Channels of the image.
        channels: Channels of the latents.
        scale: Factor of latents, which the caller applies.
    """

    def __init__(self, colours: int, channels: int, scale: float) -> None:
        super().__init__()
        self.scale = scale
        self.down = nn.Conv2d(colours, channels, 4, stride=2, padding=1)
        self.up = nn.ConvTranspose2d(channels, colours, 4, stride=2, padding=1)

    def encode(self, x: Tensor) -> Tensor:
        """Images [batch, c, h, w] in [-1, 1] to latents, without `scale`."""
        return self.down(x)

    def decode(self, h: Tensor) -> Tensor:
        """Latents without `scale` to images."""
        return self.up(h).tanh()
