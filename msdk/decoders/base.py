"""What a decoder is: features of an encoder in, one prediction of the image's shape out.

Like an encoder it is a frozen, torch-free spec and the `nn.Module` that `build` returns, whose forward is
`(Features) -> [batch, channels, *axes]`. One with an attribute `variance` that is true predicts a variance behind it,
in as many channels more.
"""

import abc
from typing import TYPE_CHECKING, ClassVar

from msdk.encoders.base import FeatureInfo, Shape

if TYPE_CHECKING:
    from torch import nn


class Decoder(abc.ABC):
    """Spec of a decoder. Concrete ones are frozen attrs classes.

    Attributes:
        axes: Axes of the images that it predicts: 2 of families for pictures; None predicts any number of them.
    """

    axes: ClassVar[int | None] = None

    @abc.abstractmethod
    def check(self, info: FeatureInfo) -> None:
        """Raises `PartError` where the features do not fit, naming the level and the reason."""

    @abc.abstractmethod
    def build(self, info: FeatureInfo, shape: Shape) -> "nn.Module":
        """The network, on the current default device, predicting images of a shape."""
