"""The network of the decoder of a stage that works at a lower resolution."""

from jaxtyping import Float
from torch import Tensor, nn

from msdk.decoders.unet_net import UNetDecoderNet
from msdk.encoders.base import Features
from msdk.layers.conv import Linear
from msdk.layers.resample import lift


class SubspaceDecoder(nn.Module):
    """See `msdk.decoders.subspace.Subspace`."""

    def __init__(self, inner: UNetDecoderNet, pooled: int, embedding: int) -> None:
        super().__init__()
        self.inner, self.pooled = inner, pooled
        self.gain = Linear(embedding, pooled, scale=0.0)

    def forward(self, features: Features) -> Float[Tensor, "batch c h w"]:
        lost, skips = features.skips[: self.pooled], features.skips[self.pooled :]
        found = lift(self.inner(features._replace(skips=skips)), self.pooled)
        gains = self.gain(features.embedding)[:, :, None, None, None]
        for index, part in enumerate(lost):
            found = found + gains[:, index] * part
        return found

    def shard_units(self) -> list[nn.Module]:
        """See `msdk.training.sharding`."""
        return self.inner.shard_units()
