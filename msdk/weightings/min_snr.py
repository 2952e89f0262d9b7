"""The clamped signal-to-noise ratio as a loss weight."""

import attrs
from attrs.validators import gt

from msdk.schedules.base import Schedule, Time
from msdk.weightings.base import Weighting


@attrs.frozen(kw_only=True)
class MinSNR(Weighting):
    """min(SNR, gamma) on the error of the clean image, with SNR = 1 / ratio^2.

    On the error of the noise that is min(1, gamma / SNR), on that of v it is min(SNR, gamma) / (SNR + 1): whatever
    the network predicts, the loss is the same.
    Source: Hang et al. 2023, arXiv 2303.09556, section 3.4.

    Args:
        gamma: Largest weight.
    """

    gamma: float = attrs.field(default=5.0, validator=gt(0))

    def weight(self, schedule: Schedule, t: Time) -> Time:
        ratio = schedule.ratio(t)
        bound = self.gamma**-0.5
        # The larger of two numbers, for floats and tensors alike, and without infinities near the data.
        larger = (ratio + bound + abs(ratio - bound)) / 2
        return 1 / (larger * larger)
