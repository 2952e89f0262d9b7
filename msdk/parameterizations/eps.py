"""Noise prediction."""

import attrs
from attrs.validators import gt

from msdk.parameterizations.base import Coefficients, Parameterization, fed_time
from msdk.schedules.base import Schedule, Time


@attrs.frozen(kw_only=True)
class Eps(Parameterization):
    """The network sees `x_t` as it is and predicts the noise: x_0 = (x_t - sigma F) / alpha.

    Source: Ho et al. 2020, arXiv 2006.11239, Eq. 12; the time scale is score_sde's for continuous VP models.

    Args:
        time_scale: The network is fed `time_scale * t + time_offset`.
        time_offset: -1 with a scale of 1000 feeds a discrete schedule's step numbers.
    """

    time_scale: float = attrs.field(default=999.0, validator=gt(0))
    time_offset: float = 0.0

    def coefficients(self, schedule: Schedule, t: Time) -> Coefficients[Time]:
        alpha = schedule.alpha(t)
        fed = fed_time(t, self.time_scale, self.time_offset)
        return Coefficients(c_skip=1 / alpha, c_out=-schedule.ratio(t), c_in=alpha * 0 + 1, c_noise=fed)
