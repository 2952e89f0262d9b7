"""The preconditioning of consistency models."""

import attrs
from attrs.validators import ge, gt

from msdk.parameterizations.base import Coefficients, Parameterization
from msdk.schedules.base import Schedule, Time, functions


@attrs.frozen(kw_only=True)
class Consistency(Parameterization):
    """EDM's preconditioning, moved so that the estimate is the image itself at the lowest ratio, whatever the network.

    With r = sigma / alpha, e the floor, d = sigma_data and y = x_t / alpha: x_0 = d^2 / ((r - e)^2 + d^2) y +
    d (r - e) / sqrt(r^2 + d^2) F(y / sqrt(r^2 + d^2), 250 log(r)).
    Source: Song et al. 2023, arXiv 2303.01469, appendix C; the network is fed what the published models are.

    Args:
        sigma_data: Standard deviation of the images, in the range [-1, 1].
        floor: e, the lowest ratio; 0 is EDM's preconditioning.
        noise_scale: The network is fed this times log(r).
    """

    sigma_data: float = attrs.field(default=0.5, validator=gt(0))
    floor: float = attrs.field(default=0.002, validator=ge(0))
    noise_scale: float = attrs.field(default=250.0, validator=gt(0))

    def coefficients(self, schedule: Schedule, t: Time) -> Coefficients[Time]:
        maths = functions(t)
        ratio, alpha = schedule.ratio(t), schedule.alpha(t)
        above, variance = ratio - self.floor, self.sigma_data**2
        root = maths.sqrt(ratio * ratio + variance)
        return Coefficients(
            c_skip=variance / (above * above + variance) / alpha,
            c_out=above * self.sigma_data / root,
            c_in=1 / (root * alpha),
            c_noise=maths.log(ratio) * self.noise_scale,
        )
