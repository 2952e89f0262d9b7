"""The loss weight of EDM."""

import attrs
from attrs.validators import gt

from msdk.schedules.base import Schedule, Time
from msdk.weightings.base import Weighting


@attrs.frozen(kw_only=True)
class EDM(Weighting):
    """(r^2 + d^2) / (r d)^2: weight 1 on the output of an EDM-preconditioned network at every noise level.

    Source: Karras et al. 2022, arXiv 2206.00364, section 5.

    Args:
        sigma_data: d, the standard deviation of the images, in the range [-1, 1].
    """

    sigma_data: float = attrs.field(default=0.5, validator=gt(0))

    def weight(self, schedule: Schedule, t: Time) -> Time:
        ratio = schedule.ratio(t)
        return (ratio * ratio + self.sigma_data**2) / (ratio * self.sigma_data) ** 2
