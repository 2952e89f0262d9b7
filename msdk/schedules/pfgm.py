"""The clock of Poisson flows: time is the augmented coordinate z."""

from collections.abc import Mapping
from typing import Any, ClassVar

import attrs
from attrs.validators import gt

from msdk.errors import PartError
from msdk.schedules.base import Schedule, Time


@attrs.frozen(kw_only=True)
class PFGM(Schedule):
    """x at height z above the data; alpha = 1, and z stands for sigma and for the ratio, which orders stages.

    Noise at height z is not Gaussian: |x - x_0| is z sqrt(b / (1 - b)), b ~ Beta(D / 2, 1 / 2), of about z sqrt(D).
    The objective `pfgm` trains on it, and only the samplers `pfgm` and `pfgm-euler` run it.
    Source: Xu et al. 2022, arXiv 2209.11178.

    Args:
        z_min: Where sampling ends.
        z_max: Where it starts.
    """

    diffuses: ClassVar[bool] = False
    trainable: ClassVar[bool] = False
    objective: ClassVar[str] = "pfgm"
    default_grid: ClassVar[str] = "uniform-lam"
    default_noise: ClassVar[Mapping[str, Any]] = {"name": "msdk:log-uniform", "low": 1e-3, "high": 40.0}
    z_min: float = attrs.field(default=1e-3, validator=gt(0))
    z_max: float = attrs.field(default=40.0, validator=gt(0))

    def __attrs_post_init__(self) -> None:
        if self.z_min >= self.z_max:
            raise PartError(f"z_min = {self.z_min} must be below z_max = {self.z_max}")

    @property
    def t_min(self) -> float:
        return self.z_min

    @property
    def t_max(self) -> float:
        return self.z_max

    @property
    def prior_std(self) -> float:
        return self.z_max

    def alpha(self, t: Time) -> Time:
        return t * 0 + 1

    def sigma(self, t: Time) -> Time:
        return t

    def t_of_ratio(self, ratio: Time) -> Time:
        return ratio
