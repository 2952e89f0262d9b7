"""The network of the DiT decoder."""

from typing import TYPE_CHECKING, cast

import torch
from jaxtyping import Float
from torch import Tensor, nn

from msdk.encoders.base import FeatureInfo, Features, Shape
from msdk.errors import PartError
from msdk.layers import widening
from msdk.layers.blockwise import Blockwise
from msdk.layers.conv import Linear
from msdk.layers.transformer import AdaLNBlock, AdaLNHead, patch_grid, unpatchify

if TYPE_CHECKING:
    from msdk.decoders.dit import DiT


class DiTDecoder(Blockwise):
    """See `msdk.decoders.dit.DiT`."""

    def __init__(self, spec: "DiT", info: FeatureInfo, shape: Shape) -> None:
        super().__init__()
        self.patch, self.width = info.levels[0].reduction, spec.width
        self.grid, self.front = patch_grid(shape, self.patch), info.tokens or 0
        self.entry = None if spec.width == info.bottom else Linear(info.bottom, spec.width)
        self.blocks = nn.ModuleList(AdaLNBlock(spec.style(), info.embedding) for _ in range(spec.depth))
        outputs = shape[0] * (2 if spec.variance else 1)
        self.head = AdaLNHead(spec.width, self.patch**2 * outputs, info.embedding)

    def forward(self, features: Features) -> Float[Tensor, "batch c h w"]:
        h = features.bottom if self.entry is None else self.entry(features.bottom)
        for block in self.blocks:
            h = self.block(block, h, features.embedding)
        return unpatchify(self.head(h, features.embedding)[:, self.front :], self.grid, self.patch)

    def widen(self, old: "DiTDecoder") -> None:
        """Takes weights with which it computes what a narrower one does, see `msdk.layers.widening`.

        Blocks that it has more do nothing yet.

        Raises:
            PartError: There are none.
        """
        layout = widening.copied(old.width, self.width)
        if self.entry is not None and old.entry is not None:
            widening.linear(self.entry, old.entry, torch.arange(old.entry.in_features), layout)
        elif self.entry is not None:
            widening.one_to_one(self.entry, torch.arange(old.width), layout)
        elif old.entry is not None or len(layout) != old.width:
            raise PartError("it is as wide as the encoder, so there is no map from one width to the other")
        if len(self.blocks) < len(old.blocks):
            raise PartError(f"{len(self.blocks)} blocks are fewer than {len(old.blocks)}")
        for block, small in zip(self.blocks, old.blocks, strict=False):
            adaln_block(cast("AdaLNBlock", block), cast("AdaLNBlock", small), layout)
        chunks = torch.cat([layout, layout + old.width])
        embedding = torch.arange(old.head.modulation.in_features)
        widening.linear(self.head.modulation, old.head.modulation, embedding, chunks)
        widening.linear(self.head.linear, old.head.linear, layout, torch.arange(old.head.linear.out_features))

    def shard_units(self) -> list[nn.Module]:
        """See `msdk.training.sharding`."""
        return [*self.blocks]


def adaln_block(new: AdaLNBlock, old: AdaLNBlock, layout: Tensor) -> None:
    """A block whose channels are copies of those of a narrower one.

    Raises:
        PartError: Heads are cut otherwise.
    """
    chunks = torch.cat([layout + part * old.width for part in range(6)])
    widening.linear(new.modulation, old.modulation, torch.arange(old.modulation.in_features), chunks)
    widening.attention_1d(new.attention, old.attention, layout)
    widening.mlp(new.mlp, old.mlp, layout)
