"""The decoder of a stage that works at a lower resolution."""

from typing import TYPE_CHECKING

import attrs

from msdk.decoders.score_sde import DDPMpp
from msdk.encoders.base import FeatureInfo, Shape
from msdk.errors import PartError

if TYPE_CHECKING:
    from torch import nn


@attrs.frozen(kw_only=True)
class Subspace(DDPMpp):
    """DDPM++ at the resolution of the encoder `subspace`; of what pooling lost it adds a multiple, its linear estimate.

    The multiple is a linear map of the noise embedding, one number for each pooling, which training finds. For Gaussian
    data whose lost part is white, of variance s^2, the best one is exact: it makes s^2 / (s^2 + ratio^2) of x_t there.
    The other fields are those of `msdk.decoders.score_sde.DDPMpp`; reductions of `attention` are of the pooled image.
    Source: Jing et al. 2022, arXiv 2205.01490.
    """

    def check(self, info: FeatureInfo) -> None:
        if self.variance:
            raise PartError("it predicts no variance: set variance to false")
        super().check(_inner(info))

    def build(self, info: FeatureInfo, shape: Shape) -> "nn.Module":
        from msdk.decoders.subspace_net import SubspaceDecoder
        from msdk.decoders.unet_net import UNetDecoderNet

        self.check(info)
        inner = _inner(info)
        net = UNetDecoderNet(self.plan(), inner, self.widths(inner), self.attends(inner), shape[0])
        return SubspaceDecoder(net, len(info.levels[0].skips), info.embedding)


def _inner(info: FeatureInfo) -> FeatureInfo:
    """The features without what pooling lost, as an encoder of the pooled image would say them."""
    first, *others = info.levels
    pooled = len(first.skips)
    if info.tokens is not None or not others or first.reduction != 1 or others[0].reduction != 2**pooled:
        raise PartError("the features are not those of a pooled image with what pooling lost: use the encoder subspace")
    levels = tuple(attrs.evolve(level, reduction=level.reduction >> pooled) for level in others)
    return attrs.evolve(info, levels=levels)
