"""The preconditioning of EDM."""

import attrs
from attrs.validators import gt

from msdk.parameterizations.base import Coefficients, Parameterization
from msdk.schedules.base import Schedule, Time, functions


@attrs.frozen(kw_only=True)
class EDM(Parameterization):
    """Unit-variance inputs and targets at every noise level; the network is fed log(ratio) / 4.

    With r = sigma / alpha, d = sigma_data and y = x_t / alpha:
    x_0 = d^2 / (r^2 + d^2) y + r d / sqrt(r^2 + d^2) F(y / sqrt(r^2 + d^2), log(r) / 4).
    Source: Karras et al. 2022, arXiv 2206.00364, Table 1 and Eq. 7.

    Args:
        sigma_data: Standard deviation of the images, in the range [-1, 1].
    """

    sigma_data: float = attrs.field(default=0.5, validator=gt(0))

    def coefficients(self, schedule: Schedule, t: Time) -> Coefficients[Time]:
        maths = functions(t)
        ratio, alpha = schedule.ratio(t), schedule.alpha(t)
        total = ratio * ratio + self.sigma_data**2
        root = maths.sqrt(total)
        return Coefficients(
            c_skip=self.sigma_data**2 / total / alpha,
            c_out=ratio * self.sigma_data / root,
            c_in=1 / (root * alpha),
            c_noise=maths.log(ratio) / 4,
        )
