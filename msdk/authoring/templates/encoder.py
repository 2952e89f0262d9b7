"""An encoder: the spec that a recipe holds, and the network that it builds."""

from typing import TYPE_CHECKING

import attrs
from attrs.validators import ge

from msdk.encoders.base import Encoder, FeatureInfo, Level, Shape
from msdk.errors import PartError

if TYPE_CHECKING:
    from torch import nn


@attrs.frozen(kw_only=True)
class MyEncoder(Encoder):
    """Two levels of convolutions, each told the noise level.

    Args:
        channels: Width of the first level; the second has twice as many.
    """

    channels: int = attrs.field(default=32, validator=ge(4))

    def info(self, shape: Shape) -> FeatureInfo:
        _, height, width = shape
        if height % 2 or width % 2:
            raise PartError(f"an image of {height}x{width} cannot be halved: its sides have to be even")
        # What decoders will be given, finest level first: the channels of each skip, and of the bottom.
        levels = (Level(1, (self.channels,)), Level(2, (2 * self.channels,)))
        return FeatureInfo(levels, bottom=2 * self.channels, embedding=4 * self.channels)

    def build(self, shape: Shape) -> "nn.Module":
        # Imported here, not above: recipes are checked without torch, in a fraction of a second.
        from msdk.authoring.templates.encoder_network import MyEncoderNet

        return MyEncoderNet(shape[0], self.channels)
