"""Estimates within the range of images."""

from typing import ClassVar

import attrs

from msdk.errors import PartError
from msdk.samplers.base import Denoise
from msdk.schedules.base import Schedule
from msdk.wrappers.base import Wrapper


@attrs.frozen(kw_only=True)
class Clip(Wrapper):
    """min(max(x_0, low), high): estimates stay within the range of images.

    Source: Ho et al. 2020, arXiv 2006.11239, in its program.

    Args:
        low: Smallest value of an image.
        high: Largest value of an image.
    """

    pixels: ClassVar[bool] = True

    low: float = -1.0
    high: float = 1.0

    def __attrs_post_init__(self) -> None:
        if self.high <= self.low:
            raise PartError(f"high = {self.high} must be above low = {self.low}")

    def around(self, denoise: Denoise, schedule: Schedule) -> Denoise:
        return lambda x_t, t: denoise(x_t, t).clamp(self.low, self.high)
