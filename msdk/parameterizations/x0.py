"""Prediction of the clean image."""

from typing import TYPE_CHECKING

import attrs

from msdk.parameterizations.base import Coefficients, Parameterization, fed_time
from msdk.schedules.base import Schedule, Time

if TYPE_CHECKING:
    from torch import Tensor


@attrs.frozen(kw_only=True)
class X0(Parameterization):
    """The network sees `x_t` as it is and predicts the image: x_0 = F. It needs no image in `x_t`.

    Source: Salimans and Ho 2022, arXiv 2202.00512, section 4.

    Args:
        time_scale: The network is fed `time_scale * t + time_offset`.
        time_offset: -1 with a scale of 1000 feeds a discrete schedule's step numbers.
    """

    time_scale: float = 999.0
    time_offset: float = 0.0

    def coefficients(self, schedule: Schedule, t: Time) -> Coefficients[Time]:
        one = schedule.alpha(t) * 0 + 1
        return Coefficients(c_skip=one * 0, c_out=one, c_in=one, c_noise=fed_time(t, self.time_scale, self.time_offset))

    def target_weights(self, schedule: Schedule, t: "Tensor") -> "tuple[Tensor, Tensor]":
        one = schedule.alpha(t) * 0 + 1
        return one, one * 0
