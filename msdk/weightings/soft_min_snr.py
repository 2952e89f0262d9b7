"""The signal-to-noise ratio, bent towards a bound, as a loss weight."""

import attrs
from attrs.validators import gt

from msdk.schedules.base import Schedule, Time
from msdk.weightings.base import Weighting


@attrs.frozen(kw_only=True)
class SoftMinSNR(Weighting):
    """SNR gamma / (SNR + gamma) = 1 / (ratio^2 + 1 / gamma) on the error of the clean image.

    Source: Crowson et al. 2024, arXiv 2401.11605, section 4.4.

    Args:
        gamma: What the weight reaches near the data.
    """

    gamma: float = attrs.field(default=4.0, validator=gt(0))

    def weight(self, schedule: Schedule, t: Time) -> Time:
        ratio = schedule.ratio(t)
        return 1 / (ratio * ratio + 1 / self.gamma)
