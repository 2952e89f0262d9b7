"""EDM's preconditioning of score_sde's VE models."""

import attrs

from msdk.parameterizations.base import Coefficients, Parameterization
from msdk.schedules.base import Schedule, Time, functions


@attrs.frozen(kw_only=True)
class VE(Parameterization):
    """x_0 = y + r F(y, log(r / 2)), with r = sigma / alpha and y = x_t / alpha.

    Source: Karras et al. 2022, arXiv 2206.00364, Table 1, column VE.
    """

    def coefficients(self, schedule: Schedule, t: Time) -> Coefficients[Time]:
        ratio, alpha = schedule.ratio(t), schedule.alpha(t)
        return Coefficients(c_skip=1 / alpha, c_out=ratio, c_in=1 / alpha, c_noise=functions(t).log(ratio / 2))
