"""What an encoder hands to decoders, and how it says so before it is built.

An encoder is two things: a frozen spec, which a recipe holds and which knows what features it will give (`info`; msdk's
own specs know it without torch), and the `nn.Module` that `build` returns. The module's forward is
`(x [batch, c, h, w], c_noise [batch], label=None, augment=None) -> Features`.
"""

import abc
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import attrs

from msdk.batch import Shape as Shape

if TYPE_CHECKING:
    from torch import Tensor, nn


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
        classes: Classes of the labels that the encoder takes; 0 means it takes none.
        augment: Augmentation labels per image that the encoder takes; 0 means it takes none.
        text: Channels of the embedded texts that the encoder takes, as `text`; 0 means it takes none.
        base: Width that the levels' widths are multiples of; 0 means that of the finest level.
        tokens: None for maps [batch, c, h, w]. Otherwise the features are sequences [batch, tokens + h w, c] of one
            level: that many tokens in front of the grid's own, which follow row by row.
    """

    levels: tuple[Level, ...]
    bottom: int
    embedding: int
    classes: int = 0
    augment: int = 0
    text: int = 0
    base: int = 0
    tokens: int | None = None


class Features(NamedTuple):
    """What an encoder computed for a batch; a tuple, because compilers cannot trace the making of a frozen class.

    Attributes:
        skips: Tensors [batch, c, h, w], or [batch, n, c] of a transformer (`FeatureInfo.tokens`), in the order in which
            they were made, finest level first.
        bottom: [batch, c, h, w], or [batch, n, c]; the resolution of the last level.
        embedding: [batch, e] or [1, e], the noise embedding, after its last activation.
        output_scale: [batch] or [1], what the decoder's prediction is to be multiplied with; None for 1.
    """

    skips: "tuple[Tensor, ...]"
    bottom: "Tensor"
    embedding: "Tensor"
    output_scale: "Tensor | None" = None

    def split(self, sizes: "Sequence[int]") -> "tuple[Features, ...]":
        """The features of the first `sizes[0]` samples, of the next `sizes[1]`, ...: views, so nothing is copied.

        Where the batch has 1 entry, as of a noise level that all samples share, every part gets it.
        """

        def parts(value: Any) -> "list[Any]":
            if isinstance(value, tuple):
                return list(zip(*map(parts, value), strict=True)) or [()] * len(sizes)
            if value is None or len(value) == 1:
                return [value] * len(sizes)
            return value.split(list(sizes))  # its gradient is one concatenation; that of slices would be sums

        return tuple(Features(*fields) for fields in zip(*map(parts, self), strict=True))


class Encoder(abc.ABC):
    """Spec of an encoder. Concrete ones are frozen attrs classes.

    Attributes:
        unit_range: Whether it wants images in [0, 1] instead of [-1, 1].
        axes: Axes of the images that it takes: 2 of families for pictures; None takes any number of them.
    """

    axes: ClassVar[int | None] = None

    unit_range: bool = False

    @abc.abstractmethod
    def info(self, shape: Shape) -> FeatureInfo:
        """The features it will give for images of a shape.

        Raises:
            PartError: The image does not suit the encoder; the message names the level and the reason.
        """

    def check_noise(self, lowest: float, highest: float) -> None:  # noqa: B027  most encoders take any
        """Raises `PartError` where the encoder cannot take the values that it will be fed as noise levels."""

    @abc.abstractmethod
    def build(self, shape: Shape) -> "nn.Module":
        """The network, on the current default device."""
