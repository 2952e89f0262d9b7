"""The network of the encoder of a stage that works at a lower resolution."""

from jaxtyping import Float
from torch import Tensor, nn

from msdk.encoders.base import Features
from msdk.encoders.unet_net import UNetEncoder
from msdk.layers.resample import lift, pool


class SubspaceEncoder(nn.Module):
    """See `msdk.encoders.subspace.Subspace`."""

    def __init__(self, inner: UNetEncoder, pooled: int) -> None:
        super().__init__()
        self.inner, self.pooled = inner, pooled

    def forward(
        self,
        x: Float[Tensor, "batch c h w"],
        c_noise: Float[Tensor, " batch_or_1"],
        label: Tensor | None = None,
        augment: Tensor | None = None,
    ) -> Features:
        small = x
        lost: list[Tensor] = []
        for times in range(self.pooled):
            smaller = pool(small)
            lost.append(lift(small - lift(smaller), times))
            small = smaller
        found = self.inner(small, c_noise, label, augment)
        return Features((*lost, *found.skips), found.bottom, found.embedding, found.output_scale)

    def shard_units(self) -> list[nn.Module]:
        """See `msdk.training.sharding`."""
        return self.inner.shard_units()
