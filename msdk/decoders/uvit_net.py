"""The network of the U-ViT decoder."""

from typing import TYPE_CHECKING, Any, cast

import torch
from jaxtyping import Float
from torch import Tensor, nn

from msdk.encoders.base import FeatureInfo, Features, Shape
from msdk.layers import widening
from msdk.layers.blockwise import Blockwise
from msdk.layers.conv import Conv2d
from msdk.layers.style import TransformerStyle
from msdk.layers.transformer import init_plain, patch_grid, plain_block, unpatchify

if TYPE_CHECKING:
    from msdk.decoders.uvit import UViT


class OutBlock(nn.Module):
    """block(linear(cat[x, skip])).

    Args:
        width_in: Channels of x.
        skip: Channels of the skip.
        style: Sizes of the block, whose width the linear map leads to.
    """

    def __init__(self, width_in: int, skip: int, style: TransformerStyle) -> None:
        super().__init__()
        self.join = nn.Linear(width_in + skip, style.width)
        init_plain(self.join)
        self.block = plain_block(style)

    def forward(
        self, x: Float[Tensor, "batch n d"], skip: Float[Tensor, "batch n e"]
    ) -> Float[Tensor, "batch n width"]:
        return self.block(self.join(torch.cat([x, skip], dim=2)))


class UViTDecoder(Blockwise):
    """See `msdk.decoders.uvit.UViT`."""

    def __init__(self, spec: "UViT", info: FeatureInfo, shape: Shape) -> None:
        super().__init__()
        (level,) = info.levels
        self.patch, self.front, self.bottom = level.reduction, info.tokens or 0, info.bottom
        self.grid = patch_grid(shape, self.patch)
        blocks: list[OutBlock] = []
        before = info.bottom
        for skip in reversed(level.skips):
            blocks.append(OutBlock(before, skip, spec.style()))
            before = spec.width
        self.blocks = nn.ModuleList(blocks)
        outputs = shape[0] * (2 if spec.variance else 1)
        self.norm = nn.LayerNorm(spec.width)
        self.head = nn.Linear(spec.width, self.patch**2 * outputs)
        init_plain(self.head)
        self.conv = Conv2d(outputs, outputs, init="torch")

    def forward(self, features: Features) -> Float[Tensor, "batch c h w"]:
        h = features.bottom
        for block, skip in zip(self.blocks, reversed(features.skips), strict=True):
            h = self.block(block, h, skip)
        # As published, the tokens in front are mapped too before they are left out; the counts agree so.
        patches = self.head(self.norm(h))[:, self.front :]
        return self.conv(unpatchify(patches, self.grid, self.patch))

    def widen(self, old: "UViTDecoder") -> None:
        """Takes weights with which it computes what a narrower one does, see `msdk.layers.widening`.

        Raises:
            PartError: There are none.
        """
        wider = widening.copied(old.norm.normalized_shape[0], self.norm.normalized_shape[0])
        layout = torch.arange(old.bottom)
        for block, small in zip(self.blocks, old.blocks, strict=True):
            new, narrow = (cast("Any", each) for each in (block, small))
            skip = torch.arange(narrow.join.in_features - int(layout.max()) - 1)
            widening.linear(new.join, narrow.join, widening.beside(layout, skip), wider)
            for norm in ("norm1", "norm2"):
                widening.layer_norm(getattr(new.block, norm), getattr(narrow.block, norm), wider)
            widening.attention_1d(new.block.attn, narrow.block.attn, wider)
            widening.mlp(new.block.mlp, narrow.block.mlp, wider)
            layout = wider
        widening.layer_norm(self.norm, old.norm, wider)
        widening.linear(self.head, old.head, wider, torch.arange(old.head.out_features))
        widening.same(self.conv, old.conv)

    def shard_units(self) -> list[nn.Module]:
        """See `msdk.training.sharding`."""
        return [*self.blocks]
