"""Estimates within the range of images."""

import attrs

from msdk.samplers.base import Denoise
from msdk.schedules.base import Schedule
from msdk.wrappers.base import Wrapper


def _above_low(clip: "Clip", _: object, value: float) -> None:
    if value <= clip.low:
        raise ValueError(f"expected high above low = {clip.low:g}, got {value:g}")


@attrs.frozen(kw_only=True)
class Clip(Wrapper):
    """min(max(x_0, low), high): estimates stay within the range of images.

    Source: Ho et al. 2020, arXiv 2006.11239, in its program.

    Args:
        low: Smallest value of an image.
        high: Largest value of an image.
    """

    low: float = -1.0
    high: float = attrs.field(default=1.0, validator=_above_low)

    def around(self, denoise: Denoise, schedule: Schedule) -> Denoise:
        return lambda x_t, t: denoise(x_t, t).clamp(self.low, self.high)
