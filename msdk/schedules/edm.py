"""The schedule of EDM: time is the noise level itself."""

from collections.abc import Mapping
from typing import Any, ClassVar

import attrs
from attrs.validators import gt

from msdk.errors import PartError
from msdk.schedules.base import Schedule, Time


@attrs.frozen(kw_only=True)
class EDM(Schedule):
    """x_t = x_0 + t eps: alpha = 1, sigma = t = ratio.

    Its own grid is even in t^(1/7), and its own law of training times is log-normal.
    Source: Karras et al. 2022, arXiv 2206.00364, Table 1.

    Args:
        sigma_min: Lowest noise level of the sampling grid; training may draw below it.
        sigma_max: Highest noise level of the sampling grid, and the standard deviation of the prior.
    """

    default_grid: ClassVar[str] = "rho"
    default_noise: ClassVar[Mapping[str, Any]] = {"name": "msdk:edm", "mean": -1.2, "std": 1.2}
    sigma_min: float = attrs.field(default=0.002, validator=gt(0))
    sigma_max: float = attrs.field(default=80.0, validator=gt(0))

    def __attrs_post_init__(self) -> None:
        if self.sigma_min >= self.sigma_max:
            raise PartError(f"sigma_min = {self.sigma_min} must be below sigma_max = {self.sigma_max}")

    @property
    def t_min(self) -> float:
        return self.sigma_min

    @property
    def t_max(self) -> float:
        return self.sigma_max

    @property
    def prior_std(self) -> float:
        return self.sigma_max

    def alpha(self, t: Time) -> Time:
        return t * 0 + 1

    def sigma(self, t: Time) -> Time:
        return t

    def f(self, t: Time) -> Time:
        return t * 0

    def g2(self, t: Time) -> Time:
        return 2 * t

    def t_of_ratio(self, ratio: Time) -> Time:
        return ratio
