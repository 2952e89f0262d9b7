"""The network of the U-ViT trunk."""

from typing import TYPE_CHECKING

import torch
from jaxtyping import Float
from torch import Tensor, nn

from msdk.encoders.base import FeatureInfo, Features, Shape
from msdk.errors import PartError
from msdk.layers.blockwise import Blockwise
from msdk.layers.embedding import timestep
from msdk.layers.transformer import STD, ClassTable, PatchEmbed, patch_grid, plain_block

if TYPE_CHECKING:
    from msdk.encoders.uvit import UViT


class UViTEncoder(Blockwise):
    """See `msdk.encoders.uvit.UViT`."""

    def __init__(self, spec: "UViT", shape: Shape, info: FeatureInfo) -> None:
        super().__init__()
        self.width, (rows, columns) = spec.width, patch_grid(shape, spec.patch)
        self.patches = PatchEmbed(shape, spec.patch, spec.width, init="torch")
        self.classes = ClassTable(spec.classes, spec.width, null=spec.null_class, std=1.0)
        self.positions = nn.Parameter(torch.empty(1, (info.tokens or 0) + rows * columns, spec.width))
        nn.init.trunc_normal_(self.positions, std=STD)
        self.blocks = nn.ModuleList(plain_block(spec.style()) for _ in info.levels[0].skips)
        self.middle = plain_block(spec.style())

    def forward(
        self,
        x: Float[Tensor, "batch c h w"],
        c_noise: Float[Tensor, " batch_or_1"],
        label: Tensor | None = None,
        augment: Tensor | None = None,
    ) -> Features:
        if augment is not None:
            raise PartError("the U-ViT encoder takes no augmentation labels")
        # In the dtype of the positions: under autocast the patches alone would be bf16, too coarse for the noise level.
        patches = self.patches(x).to(self.positions.dtype)
        time = timestep(c_noise, self.width).to(self.positions.dtype)
        label_vector = self.classes(label, time)
        front = [label_vector, time] if self.classes.classes else [time]
        tokens = [vector.to(time.dtype)[:, None].expand(len(patches), -1, -1) for vector in front]
        h = torch.cat([*tokens, patches], dim=1) + self.positions
        skips: list[Tensor] = []
        for block in self.blocks:
            h = self.block(block, h)
            skips.append(h)
        return Features(tuple(skips), self.block(self.middle, h), time)

    def shard_units(self) -> list[nn.Module]:
        """See `msdk.training.sharding`."""
        return [*self.blocks, self.middle]
