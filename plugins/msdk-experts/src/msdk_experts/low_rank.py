"""A decoder that is another one, frozen, plus low-rank changes of its weights."""

from typing import TYPE_CHECKING

import attrs
from attrs.validators import ge

from msdk.decoders.base import Decoder
from msdk.encoders.base import FeatureInfo, Shape

if TYPE_CHECKING:
    from torch import nn


@attrs.frozen(kw_only=True)
class LowRank(Decoder):
    """Parameter-efficient experts: every weight W of the base is W + up down, and only up and down train.

    `up` starts at zero, so that the expert begins as its base. `msdk-experts grow RUN` makes a run of such experts from
    one with a single decoder, whose weights they begin with. Convolutions are changed as matrices [out, in k k].
    Source: Go et al. 2023, arXiv 2212.05973 (PPAP), with the low-rank form of Hu et al. 2021, arXiv 2106.09685.

    Args:
        base: The decoder that is changed.
        rank: Of the changes.
    """

    base: Decoder
    rank: int = attrs.field(default=4, validator=ge(1))

    @property
    def variance(self) -> bool:
        """Whether a variance is predicted too."""
        return getattr(self.base, "variance", False)

    def check(self, info: FeatureInfo) -> None:
        self.base.check(info)

    def build(self, info: FeatureInfo, shape: Shape) -> "nn.Module":
        from msdk_experts.low_rank_net import adapted

        return adapted(self.base.build(info, shape), self.rank)
