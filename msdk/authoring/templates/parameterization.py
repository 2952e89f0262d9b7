"""A parameterisation: what the network is fed, and what its output means."""

import attrs

from msdk.parameterizations.base import Coefficients, Parameterization
from msdk.schedules.base import Schedule, Time, functions


@attrs.frozen(kw_only=True)
class MyParameterization(Parameterization):
    """The network predicts v = (alpha eps - sigma x_0) / s with s^2 = alpha^2 + sigma^2.

    Source: Salimans and Ho 2022, arXiv 2202.00512, made to suit any schedule.

    Args:
        factor: What the time is multiplied with before the network sees it.
    """

    factor: float = 999.0

    def coefficients(self, schedule: Schedule, t: Time) -> Coefficients[Time]:
        # x_0 = c_skip x_t + c_out F(c_in x_t, c_noise): four numbers say it all, the training target follows.
        alpha, sigma = schedule.alpha(t), schedule.sigma(t)
        square = alpha * alpha + sigma * sigma
        scale = functions(t).sqrt(square)
        return Coefficients(c_skip=alpha / square, c_out=-sigma / scale, c_in=1 / scale, c_noise=self.factor * t)
