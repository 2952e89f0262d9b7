"""Velocity prediction of progressive distillation."""

from typing import TYPE_CHECKING

import attrs

from msdk.parameterizations.base import Coefficients, Parameterization, fed_time
from msdk.schedules.base import Schedule, Time

if TYPE_CHECKING:
    from torch import Tensor


@attrs.frozen(kw_only=True)
class V(Parameterization):
    """The network sees `x_t` as it is and predicts v = alpha eps - sigma x_0.

    x_0 = (alpha x_t - sigma F) / (alpha^2 + sigma^2). It says x_0 where no image is left in `x_t`, and the noise where
    no noise is.
    Source: Salimans and Ho 2022, arXiv 2202.00512, appendix D.

    Args:
        time_scale: The network is fed `time_scale * t + time_offset`.
        time_offset: -1 with a scale of 1000 feeds a discrete schedule's step numbers.
    """

    time_scale: float = 999.0
    time_offset: float = 0.0

    def coefficients(self, schedule: Schedule, t: Time) -> Coefficients[Time]:
        alpha, sigma = schedule.alpha(t), schedule.sigma(t)
        power = alpha * alpha + sigma * sigma
        return Coefficients(
            c_skip=alpha / power,
            c_out=-sigma / power,
            c_in=alpha * 0 + 1,
            c_noise=fed_time(t, self.time_scale, self.time_offset),
        )

    def target_weights(self, schedule: Schedule, t: "Tensor") -> "tuple[Tensor, Tensor]":
        return -schedule.sigma(t), schedule.alpha(t)
