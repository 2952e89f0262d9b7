"""A decoder: the spec that a recipe holds, and the network that it builds."""

from typing import TYPE_CHECKING

import attrs
from attrs.validators import ge

from msdk.decoders.base import Decoder
from msdk.encoders.base import FeatureInfo, Shape
from msdk.errors import PartError

if TYPE_CHECKING:
    from torch import nn


@attrs.frozen(kw_only=True)
class MyDecoder(Decoder):
    """Doubles the features level by level, and adds the last skip of each.

    Args:
        channels: Width of every level.
    """

    channels: int = attrs.field(default=32, validator=ge(1))

    def check(self, info: FeatureInfo) -> None:
        # Refuse what does not fit here, in words: it is told when a recipe is checked, before anything is built.
        reductions = [level.reduction for level in info.levels]
        if info.tokens is not None:
            raise PartError("this decoder takes feature maps, but the encoder gives tokens")
        if reductions != [2**index for index in range(len(reductions))]:
            raise PartError(
                f"this decoder doubles from level to level, but the encoder's levels reduce by {reductions}"
            )

    def build(self, info: FeatureInfo, shape: Shape) -> "nn.Module":
        # Imported here, not above: recipes are checked without torch, in a fraction of a second.
        from msdk.authoring.templates.decoder_network import MyDecoderNet

        return MyDecoderNet(info, self.channels, shape[0])
