"""What an extractor is: a spec, and an opened network that makes features of pixels."""

import abc
from typing import TYPE_CHECKING, ClassVar

import attrs

from msdk.batch import Shape

if TYPE_CHECKING:
    from torch import Tensor


@attrs.frozen(eq=False)
class Extracted:
    """What an extractor makes of images.

    Attributes:
        features: [images, features], on the CPU, float32 or float64.
        logits: [images, classes], likewise; None of an extractor without classes.
    """

    features: "Tensor"
    logits: "Tensor | None" = None

    def __len__(self) -> int:
        return len(self.features)


class Opened(abc.ABC):
    """An extractor with its weights, on a device.

    Attributes:
        digest: SHA-256 of the file of its weights, in hexadecimal; scores carry it.
        width: Features of an image.
        classes: Logits of an image; 0 of an extractor without classes.
    """

    digest: str
    width: int
    classes: int = 0

    @abc.abstractmethod
    def __call__(self, images: "Tensor") -> Extracted:
        """Features of pixels, uint8 [images, channels, height, width] on the CPU. Images do not affect each other."""


class Extractor(abc.ABC):
    """Spec of an extractor. Concrete ones are frozen attrs classes.

    Attributes:
        protocol: Images that published numbers by it are made of: those of fewer are called so, "FID-2k"; 0 where
            nothing is published.
    """

    protocol: ClassVar[int] = 0

    @property
    @abc.abstractmethod
    def label(self) -> str:
        """Behind the names of its numbers, "digits" of `FD-digits`; empty for the one that plain names, `FID`, mean."""

    @abc.abstractmethod
    def open(self, device: str = "cpu") -> Opened:
        """Reads the weights; nothing is ever downloaded.

        Raises:
            PartError: They are not there, or not what they should be: what the file is, where it is usually had, and
                what can be had without it.
        """

    def check(self, shape: Shape) -> None:  # noqa: B027  most need nothing
        """Raises `PartError` where images of that shape cannot be looked at."""
