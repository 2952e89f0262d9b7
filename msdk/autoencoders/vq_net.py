"""The network of the vector-quantised autoencoder."""

import contextlib

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from msdk.autoencoders.conv_net import DecoderNet, EncoderNet
from msdk.autoencoders.vq import VQ
from msdk.encoders.base import Shape
from msdk.layers.conv import Conv2d

COMMITMENT = 0.25
"""Weight of the codes' term in the loss. The paper gives it to the encoder's term; LDM's code has the two swapped."""

DISTANCES = 2**25
"""Distances in memory at once (128 MiB in float32): the table of all pixels and codes of a batch would be gigabytes."""


class VectorQuantizer(nn.Module):
    """A table of codes, of which each pixel of a map takes the nearest.

    Source: van den Oord et al. 2017, arXiv 1711.00937, Eq. 1 to 3.

    Args:
        codes: Number of codes.
        width: Channels of the map.
    """

    def __init__(self, codes: int, width: int) -> None:
        super().__init__()
        self.codes = nn.Parameter(torch.empty(codes, width))
        nn.init.uniform_(self.codes, -1 / codes, 1 / codes)

    def nearest(self, rows: Float[Tensor, "rows c"]) -> Int[Tensor, " rows"]:
        """The code at the smallest squared distance; the row's own square is the same for all codes and left out."""
        squares = self.codes.square().sum(dim=1)
        chunks = rows.split(max(DISTANCES // len(self.codes), 1))
        return torch.cat([torch.addmm(squares, chunk, self.codes.T, alpha=-2).argmin(dim=1) for chunk in chunks])

    def forward(
        self, h: Float[Tensor, "batch c h w"]
    ) -> tuple[Float[Tensor, "batch c h w"], Float[Tensor, ""], Int[Tensor, "batch h w"]]:
        with _without_autocast(h.device.type):
            h = h.to(self.codes.dtype)
            pixels = h.permute(0, 2, 3, 1)
            with torch.no_grad():
                indices = self.nearest(pixels.flatten(0, 2)).view(pixels.shape[:3])
            z_q = self.codes[indices].permute(0, 3, 1, 2)
            loss = (z_q.detach() - h).square().mean() + COMMITMENT * (z_q - h.detach()).square().mean()
            return h + (z_q - h).detach(), loss, indices


def _without_autocast(device: str) -> contextlib.AbstractContextManager[object]:
    """Distances in bf16 would pick other codes. The meta device, on which budgets count, knows no autocast."""
    if not torch.amp.is_autocast_available(device):
        return contextlib.nullcontext()
    return torch.autocast(device, enabled=False)


class VQNet(nn.Module):
    """See `msdk.autoencoders.vq.VQ`."""

    def __init__(self, spec: VQ, shape: Shape) -> None:
        super().__init__()
        init = spec.style().init
        self.scale = spec.scale
        self.encoder = EncoderNet(spec, shape[0], spec.z_channels)
        self.to_latent = Conv2d(spec.z_channels, spec.latent_channels, 1, init=init)
        self.quantizer = VectorQuantizer(spec.codes, spec.latent_channels)
        self.from_latent = Conv2d(spec.latent_channels, spec.z_channels, 1, init=init)
        self.decoder = DecoderNet(spec, shape[0])

    def encode(self, x: Float[Tensor, "batch c h w"]) -> Float[Tensor, "batch d h2 w2"]:
        """Images in [-1, 1] to latents that are not quantised."""
        return self.to_latent(self.encoder(x))

    def quantize(
        self, h: Float[Tensor, "batch c h w"]
    ) -> tuple[Float[Tensor, "batch c h w"], Float[Tensor, ""], Int[Tensor, "batch h w"]]:
        """The nearest codes z_q, their loss and their numbers.

        The gradient at z_q goes to h as it is. The loss has the value 1.25 mean((z_q - h)^2), with a gradient of weight
        1 on h and 0.25 on the codes.
        """
        return self.quantizer(h)

    def decode(self, h: Float[Tensor, "batch c h w"], quantize: bool = True) -> Float[Tensor, "batch d h2 w2"]:
        """Latents to images, nominally in [-1, 1]; `quantize` snaps them to the nearest codes first."""
        return self.decoder(self.from_latent(self.quantize(h)[0] if quantize else h))
