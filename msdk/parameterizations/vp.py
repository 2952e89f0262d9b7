"""EDM's preconditioning of score_sde's VP models."""

import attrs
from attrs.validators import gt

from msdk.parameterizations.base import Coefficients, Parameterization, noise_of_unit_input
from msdk.schedules.base import Schedule, Time, functions, linear_beta_time


@attrs.frozen(kw_only=True)
class VP(Parameterization):
    """Noise prediction from inputs of unit variance; the network is fed the linear-beta time of the noise level.

    With r = sigma / alpha and y = x_t / alpha: x_0 = y - r F(y / sqrt(r^2 + 1), (steps - 1) t(r)).
    Source: Karras et al. 2022, arXiv 2206.00364, Table 1, column VP.

    Args:
        beta_min: beta_0 of the linear-beta diffusion whose time is fed.
        beta_max: beta_1 of it.
        steps: M; the time in [0, 1] is fed times M - 1.
    """

    beta_min: float = attrs.field(default=0.1, validator=gt(0))
    beta_max: float = attrs.field(default=20.0, validator=gt(0))
    steps: int = attrs.field(default=1000, validator=gt(1))

    def coefficients(self, schedule: Schedule, t: Time) -> Coefficients[Time]:
        ratio = schedule.ratio(t)
        time = linear_beta_time(functions(t).log1p(ratio * ratio), self.beta_min, self.beta_max)
        return noise_of_unit_input(schedule, t, c_noise=(self.steps - 1) * time)
