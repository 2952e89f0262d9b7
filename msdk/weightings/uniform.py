"""The simple loss of DDPM."""

import attrs

from msdk.schedules.base import Schedule, Time
from msdk.weightings.base import Weighting


@attrs.frozen(kw_only=True)
class Uniform(Weighting):
    """Weight 1 on the error of the noise, which is 1 / ratio^2 on the error of the clean image.

    Source: Ho et al. 2020, arXiv 2006.11239, Eq. 14; the paper's Eq. 2 with w = 1.
    """

    def weight(self, schedule: Schedule, t: Time) -> Time:
        ratio = schedule.ratio(t)
        return 1 / (ratio * ratio)
