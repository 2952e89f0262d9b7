"""Powers of the signal-to-noise ratio as a loss weight."""

from typing import Any

import attrs
from attrs.validators import ge

from msdk.schedules.base import Schedule, Time
from msdk.weightings.base import Weighting


@attrs.frozen(kw_only=True)
class SNR(Weighting):
    """max(SNR^power, floor) + offset on the error of the clean image, with SNR = 1 / ratio^2.

    With power 1 alone it is `uniform`; with floor 1 the truncated SNR, with offset 1 the loss of v, both of Salimans
    and Ho; power 0 weighs images the same at all noise levels.
    Source: Salimans and Ho 2022, arXiv 2202.00512, section 4; consistency models know all of them.

    Args:
        power: Of the ratio of variances.
        floor: Smallest weight, before the offset.
        offset: Added to it.
    """

    power: float = attrs.field(default=1.0, validator=ge(0))
    floor: float = attrs.field(default=0.0, validator=ge(0))
    offset: float = attrs.field(default=0.0, validator=ge(0))

    def weight(self, schedule: Schedule, t: Time) -> Time:
        snr: Any = schedule.ratio(t) ** (-2 * self.power)
        larger = (snr + self.floor + abs(snr - self.floor)) / 2 if self.floor else snr
        return larger + self.offset
