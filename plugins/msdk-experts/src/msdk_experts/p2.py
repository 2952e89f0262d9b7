"""The P2 weight."""

import attrs
from attrs.validators import ge, gt

from msdk.schedules.base import Schedule, Time, functions
from msdk.weightings.base import Weighting


@attrs.frozen(kw_only=True)
class P2(Weighting):
    """The simple loss of the noise, divided by (k + snr)^gamma: less weight where only details are left to learn.

    Source: Choi et al. 2022, arXiv 2204.00227, Eq. 8. On the error of the image it is snr / (k + snr)^gamma.

    Args:
        k: Keeps the weight finite where there is no noise.
        gamma: How much less weight; 0 is the simple loss.
    """

    k: float = attrs.field(default=1.0, validator=gt(0))
    gamma: float = attrs.field(default=1.0, validator=ge(0))

    def weight(self, schedule: Schedule, t: Time) -> Time:
        ratio = schedule.ratio(t)
        snr = 1 / (ratio * ratio)
        maths = functions(t)
        return snr * maths.exp(-self.gamma * maths.log(self.k + snr))
