"""A loss weight by noise level."""

import attrs
from attrs.validators import gt

from msdk.schedules.base import Schedule, Time
from msdk.weightings.base import Weighting


@attrs.frozen(kw_only=True)
class MyWeighting(Weighting):
    """The signal-to-noise ratio, levelled off: snr gamma / (snr + gamma), on the squared error of the image.

    Source: a smooth form of Hang et al. 2023, arXiv 2303.09556, "Min-SNR".

    Args:
        gamma: Where it levels off.
    """

    gamma: float = attrs.field(default=5.0, validator=gt(0))

    def weight(self, schedule: Schedule, t: Time) -> Time:
        ratio = schedule.ratio(t)
        snr = 1 / (ratio * ratio)
        return snr * self.gamma / (snr + self.gamma)
