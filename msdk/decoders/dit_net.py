"""The network of the DiT decoder."""

from typing import TYPE_CHECKING

from jaxtyping import Float
from torch import Tensor, nn

from msdk.encoders.base import FeatureInfo, Features, Shape
from msdk.layers.blockwise import Blockwise
from msdk.layers.conv import Linear
from msdk.layers.transformer import AdaLNBlock, AdaLNHead, patch_grid, unpatchify

if TYPE_CHECKING:
    from msdk.decoders.dit import DiT


class DiTDecoder(Blockwise):
    """See `msdk.decoders.dit.DiT`."""

    def __init__(self, spec: "DiT", info: FeatureInfo, shape: Shape) -> None:
        super().__init__()
        self.patch = info.levels[0].reduction
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

    def shard_units(self) -> list[nn.Module]:
        """See `msdk.training.sharding`."""
        return [*self.blocks]
