"""Prediction of the velocity along the path from image to noise: flow matching."""

from typing import TYPE_CHECKING

import attrs

from msdk.parameterizations.base import Coefficients, Parameterization, fed_time
from msdk.schedules.base import Schedule, Time

if TYPE_CHECKING:
    from torch import Tensor


@attrs.frozen(kw_only=True)
class Velocity(Parameterization):
    """The network sees `x_t` as it is and predicts dx_t / dt = alpha' x_0 + sigma' eps, on straight paths eps - x_0.

    x_0 = (sigma' x_t - sigma F) / d with d = alpha sigma' - sigma alpha'. With the weighting `velocity` training
    minimises |F - dx_t / dt|^2: flow matching.
    Source: Lipman et al. 2023, arXiv 2210.02747, Eq. 9; for any path Ma et al. 2024, arXiv 2401.08740 (SiT), Eq. 4.

    Args:
        time_scale: The network is fed `time_scale * t + time_offset`: 1000 t as flow models of diffusers are.
        time_offset: 1 with a scale of -1 feeds 1 - t, as SiT has it, whose time runs from noise to image.
        to_data: Whether F points from noise to image, that is -dx_t / dt, as in SiT.
    """

    time_scale: float = 1000.0
    time_offset: float = 0.0
    to_data: bool = False

    def coefficients(self, schedule: Schedule, t: Time) -> Coefficients[Time]:
        alpha, sigma = schedule.alpha(t), schedule.sigma(t)
        d_alpha, d_sigma = schedule.slopes(t)
        turn = alpha * d_sigma - sigma * d_alpha
        return Coefficients(
            c_skip=d_sigma / turn,
            c_out=sigma / turn if self.to_data else -sigma / turn,
            c_in=alpha * 0 + 1,
            c_noise=fed_time(t, self.time_scale, self.time_offset),
        )

    def target_weights(self, schedule: Schedule, t: "Tensor") -> "tuple[Tensor, Tensor]":
        d_alpha, d_sigma = schedule.slopes(t)
        return (-d_alpha, -d_sigma) if self.to_data else (d_alpha, d_sigma)
