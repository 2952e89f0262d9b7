"""The network of the DiT trunk."""

from typing import TYPE_CHECKING

from jaxtyping import Float
from torch import Tensor, nn

from msdk.encoders.base import Features, Shape
from msdk.errors import PartError
from msdk.layers.blockwise import Blockwise
from msdk.layers.transformer import AdaLNBlock, ConditionEmbedding, PatchEmbed, patch_grid, sincos_positions

if TYPE_CHECKING:
    from msdk.encoders.dit import DiT


class DiTEncoder(Blockwise):
    """See `msdk.encoders.dit.DiT`."""

    positions: Tensor

    def __init__(self, spec: "DiT", shape: Shape) -> None:
        super().__init__()
        self.patches = PatchEmbed(shape, spec.patch, spec.width, init="xavier")
        self.register_buffer("positions", sincos_positions(patch_grid(shape, spec.patch), spec.width), persistent=False)
        self.embedding = ConditionEmbedding(spec.width, spec.classes, null=spec.null_class)
        self.blocks = nn.ModuleList(AdaLNBlock(spec.style(), spec.width) for _ in range(spec.depth))

    def forward(
        self,
        x: Float[Tensor, "batch c h w"],
        c_noise: Float[Tensor, " batch_or_1"],
        label: Tensor | None = None,
        augment: Tensor | None = None,
    ) -> Features:
        if augment is not None:
            raise PartError("the DiT encoder takes no augmentation labels")
        embedding = self.embedding(c_noise, label)
        h = self.patches(x) + self.positions
        for block in self.blocks:
            h = self.block(block, h, embedding)
        return Features((), h, embedding)

    def shard_units(self) -> list[nn.Module]:
        """See `msdk.training.sharding`."""
        return [*self.blocks]
