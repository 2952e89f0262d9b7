"""Features of the handwritten digits, by a small network that is shipped."""

from typing import TYPE_CHECKING

import attrs

from msdk.batch import Shape
from msdk.errors import PartError
from msdk.extractors.base import Extractor, Opened

if TYPE_CHECKING:
    pass

SHAPE = (1, 8, 8)


@attrs.frozen(kw_only=True)
class Digits(Extractor):
    """64 numbers of an 8x8 digit, before the last layer of a network that tells the ten digits apart; shipped.

    Every path of evaluation runs with it offline. Its distance is called `FD-digits`: no number of it can be compared
    with a FID. It was trained on four fifths of the digits (benchmarks/train_digits_extractor.py); docs/evaluation.md
    has its accuracy on the others. It computes in float64, so that no number depends on how images are batched.
    Source: ours.
    """

    @property
    def label(self) -> str:
        return "digits"

    def check(self, shape: Shape) -> None:
        if tuple(shape) != SHAPE:
            raise PartError(
                f"the extractor 'digits' is for grey images of 8x8, and these are {' x '.join(map(str, shape))}: use "
                "inception, with the file of its weights, or one of a plugin"
            )

    def open(self, device: str = "cpu") -> Opened:
        from msdk.extractors.digits_net import opened

        return opened(device)
