"""Power-function averages, of which every other length can be made after training.

Source: Karras et al. 2024, "Analyzing and Improving the Training Dynamics of Diffusion Models", arXiv 2312.02696,
section 3 and appendix C. An average at time t weighs the weights of time s <= t by (gamma + 1) s^gamma / t^(gamma + 1).
Its length is the standard deviation of that density, relative to t. Time may be counted in images or steps: only
ratios matter.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import attrs
from attrs.validators import gt, lt

from msdk.averages.base import Average

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, np.dtype[np.float64]]

LONGEST = 12**-0.5
"""The length of the plain mean of all weights, gamma = 0."""


@attrs.frozen(kw_only=True)
class Power(Average):
    """Decay (1 - 1 / n)^(gamma + 1) at update n; the first update takes the weights as they are.

    Source: Karras et al. 2024, arXiv 2312.02696, Eq. 127.

    Args:
        length: Standard deviation of the profile relative to the training so far; gamma follows from it.
    """

    length: float = attrs.field(default=0.1, validator=[gt(0), lt(LONGEST)])

    def decay(self, update: int, batch: int) -> float:
        return (1 - 1 / update) ** (exponent(self.length) + 1)


def exponent(length: float) -> float:
    """The gamma of a length: the largest root of gamma^3 + 7 gamma^2 + (16 - l^-2) gamma + (12 - l^-2) (Eq. 126)."""
    import numpy as np

    square = length**-2
    return float(np.roots([1, 7, 16 - square, 12 - square]).real.max())


def length_of(gamma: float) -> float:
    """The length of a gamma (Eq. 123)."""
    return ((gamma + 1) / (gamma + 3)) ** 0.5 / (gamma + 2)


def overlaps(
    times: "Sequence[float] | Array",
    lengths: "Sequence[float] | Array",
    others: Sequence[float],
    theirs: Sequence[float],
) -> "Array":
    """Inner products of profiles (Eq. 151): of each of some with each of others, by their times and lengths.

    Returns:
        float64 [profiles, others].
    """
    import numpy as np

    a_time, b_time = np.asarray(times, float)[:, None], np.asarray(others, float)[None, :]
    a, b = (np.array([exponent(float(each)) for each in some]) for some in (lengths, theirs))
    a, b = a[:, None], b[None, :]
    # The profile that ends first is 0 beyond its end, so it is its end that the other one's power is taken at.
    powers = np.where(a_time < b_time, b, -a)
    return (a + 1) * (b + 1) * (a_time / b_time) ** powers / ((a + b + 1) * np.maximum(a_time, b_time))


def coefficients(times: Sequence[float], lengths: Sequence[float], time: float, wanted: Sequence[float]) -> "Array":
    """What to multiply kept averages with, so that their sum is the best fit to other lengths (algorithm 3).

    Args:
        times: When each was kept, in steps or images.
        lengths: What length each has.
        time: The time whose averages are wanted.
        wanted: Their lengths.

    Returns:
        float64 [kept, wanted]; each column sums to 1.
    """
    import numpy as np

    among = overlaps(times, lengths, times, lengths)
    across = overlaps(times, lengths, [time] * len(wanted), wanted)
    found = np.linalg.solve(among, across)
    return found / found.sum(0)
