"""The variance-exploding schedule of score_sde."""

import math

import attrs
from attrs.validators import gt

from msdk.errors import PartError
from msdk.schedules.base import Schedule, Time, functions


@attrs.frozen(kw_only=True)
class VE(Schedule):
    """x_t = x_0 + sigma eps with sigma = sigma_min (sigma_max / sigma_min)^t, on t in [0, 1].

    Source: Song et al. 2021, arXiv 2011.13456, Eq. 30.

    Args:
        sigma_min: Noise level at t = 0.
        sigma_max: Noise level at t = 1, and the standard deviation of the prior.
    """

    sigma_min: float = attrs.field(default=0.01, validator=gt(0))
    sigma_max: float = attrs.field(default=50.0, validator=gt(0))

    def __attrs_post_init__(self) -> None:
        if self.sigma_min >= self.sigma_max:
            raise PartError(f"sigma_min = {self.sigma_min} must be below sigma_max = {self.sigma_max}")

    @property
    def t_min(self) -> float:
        return 0.0

    @property
    def t_max(self) -> float:
        return 1.0

    @property
    def prior_std(self) -> float:
        return self.sigma_max

    def alpha(self, t: Time) -> Time:
        return t * 0 + 1

    def sigma(self, t: Time) -> Time:
        return functions(t).exp(t * math.log(self.sigma_max / self.sigma_min)) * self.sigma_min

    def f(self, t: Time) -> Time:
        return t * 0

    def g2(self, t: Time) -> Time:
        return self.sigma(t) ** 2 * (2 * math.log(self.sigma_max / self.sigma_min))

    def t_of_ratio(self, ratio: Time) -> Time:
        return functions(ratio).log(ratio / self.sigma_min) / math.log(self.sigma_max / self.sigma_min)
