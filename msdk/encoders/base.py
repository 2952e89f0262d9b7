"""What an encoder hands to decoders, and how it says so before it is built.

An encoder is two things: a frozen spec, which a recipe holds and which knows what features it will give (`info`; msdk's
own specs know it without torch), and the `nn.Module` that `build` returns. The module's forward is
`(x [batch, c, h, w], c_noise [batch], label=None, augment=None) -> Features`.
"""

import abc
from typing import TYPE_CHECKING

import attrs

if TYPE_CHECKING:
    from torch import Tensor, nn

Shape = tuple[int, int, int]
"""Channels, height and width of an image."""


@attrs.frozen
class Level:
    """The features of one resolution.

    Attributes:
        reduction: Side of the image over the side of these features.
        skips: Channels of each skip tensor, in the order in which the encoder makes them.
        attention: Whether the encoder attends at this level, which decoders may follow.
    """

    reduction: int
    skips: tuple[int, ...]
    attention: bool = False


@attrs.frozen
class FeatureInfo:
    """The features of an encoder, known before it is built.

    Attributes:
        levels: Finest first.
        bottom: Channels of the bottom tensor, which has the resolution of the last level.
        embedding: Width of the noise embedding.
    """

    levels: tuple[Level, ...]
    bottom: int
    embedding: int


@attrs.frozen
class Features:
    """What an encoder computed for a batch.

    Attributes:
        skips: Tensors [batch, c, h, w] in the order in which they were made, finest level first.
        bottom: [batch, c, h, w], the resolution of the last level.
        embedding: [batch, e] or [1, e], the noise embedding.
    """

    skips: "tuple[Tensor, ...]"
    bottom: "Tensor"
    embedding: "Tensor"

    def select(self, index: "Tensor") -> "Features":
        """The features of the samples at `index` (int64, on the device of the features)."""
        embedding = self.embedding
        return Features(
            skips=tuple(skip.index_select(0, index) for skip in self.skips),
            bottom=self.bottom.index_select(0, index),
            embedding=embedding if embedding.shape[0] == 1 else embedding.index_select(0, index),
        )


class Encoder(abc.ABC):
    """Spec of an encoder. Concrete ones are frozen attrs classes."""

    @abc.abstractmethod
    def info(self, shape: Shape) -> FeatureInfo:
        """The features it will give for images of a shape.

        Raises:
            PartError: The image does not suit the encoder; the message names the level and the reason.
        """

    @abc.abstractmethod
    def build(self, shape: Shape) -> "nn.Module":
        """The network, on the current default device."""
