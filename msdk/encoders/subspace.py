"""The encoder of a stage that works at a lower resolution."""

from typing import TYPE_CHECKING

import attrs
from attrs.validators import ge, le

from msdk.encoders.base import FeatureInfo, Level, Shape
from msdk.encoders.score_sde import DDPMpp
from msdk.errors import PartError

if TYPE_CHECKING:
    from torch import nn


@attrs.frozen(kw_only=True)
class Subspace(DDPMpp):
    """DDPM++ on images that are pooled first: means of 2x2 pixels, times 2, so that white noise keeps its ratio.

    What each pooling loses is handed on as a skip of the full resolution, which the decoder `subspace` adds as its
    linear estimate. For noisy stages, in which little else can be said of it. The other fields, `attention` with the
    sides of its maps among them, are those of `msdk.encoders.score_sde.DDPMpp`.
    Source: Jing et al. 2022, arXiv 2205.01490, whose noisy stages leave what is lost out of the state instead.

    Args:
        pooled: How often the sides are halved.
    """

    blocks: int = attrs.field(default=4, validator=ge(1))
    pooled: int = attrs.field(default=1, validator=[ge(1), le(8)])

    def info(self, shape: Shape) -> FeatureInfo:
        if self.unit_range:
            raise PartError("unit_range is for images as they are, and these are pooled: leave it out")
        small = self._small(shape)
        inner = super().info(small)
        levels = [attrs.evolve(level, reduction=level.reduction << self.pooled) for level in inner.levels]
        return attrs.evolve(inner, levels=(Level(1, (shape[0],) * self.pooled), *levels))

    def build(self, shape: Shape) -> "nn.Module":
        from msdk.encoders.subspace_net import SubspaceEncoder
        from msdk.encoders.unet_net import UNetEncoder

        small = self._small(shape)
        return SubspaceEncoder(UNetEncoder(self.plan(), small, super().info(small)), self.pooled)

    def _small(self, shape: Shape) -> Shape:
        """The shape of pooled images."""
        factor = 2**self.pooled
        if any(side % factor for side in shape[1:]):
            raise PartError(f"images of {shape[1]}x{shape[2]} cannot be halved {self.pooled} times: lower `pooled`")
        return (shape[0], *(side // factor for side in shape[1:]))
