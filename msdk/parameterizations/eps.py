"""Noise prediction."""

import attrs
from attrs.validators import gt

from msdk.parameterizations.base import Coefficients, Parameterization, fed_time
from msdk.schedules.base import Schedule, Time


@attrs.frozen(kw_only=True)
class Eps(Parameterization):
    """The network sees `x_t` as it is and predicts the noise: x_0 = (x_t - sigma F) / alpha.

    Source: Ho et al. 2020, arXiv 2006.11239, Eq. 12; the time scale is score_sde's for continuous VP models.

    Mixed, x_0 = alpha / (alpha^2 + sigma^2) x_t - sigma / alpha F: F is what is left of the noise beside that in x_t of
    data which are standard normal, as in CLD-SGM's VPSDE; LSGM (Vahdat et al. 2021, arXiv 2106.05931) learns the share.

    Args:
        time_scale: The network is fed `time_scale * t + time_offset`.
        time_offset: -1 with a scale of 1000 feeds a discrete schedule's step numbers.
        mixed: Whether the network says what is left of the noise.
    """

    time_scale: float = attrs.field(default=999.0, validator=gt(0))
    time_offset: float = 0.0
    mixed: bool = False

    def coefficients(self, schedule: Schedule, t: Time) -> Coefficients[Time]:
        alpha = schedule.alpha(t)
        fed = fed_time(t, self.time_scale, self.time_offset)
        if self.mixed:
            sigma = schedule.sigma(t)
            skip = alpha / (alpha * alpha + sigma * sigma)
            return Coefficients(c_skip=skip, c_out=-schedule.ratio(t), c_in=alpha * 0 + 1, c_noise=fed)
        return Coefficients(c_skip=1 / alpha, c_out=-schedule.ratio(t), c_in=alpha * 0 + 1, c_noise=fed)
