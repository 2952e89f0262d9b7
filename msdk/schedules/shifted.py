"""A schedule moved to more noise for larger images, or to less."""

import math
from collections.abc import Mapping
from typing import Any

import attrs
from attrs.validators import gt

from msdk.errors import PartError
from msdk.schedules.base import Schedule, Time, functions
from msdk.schedules.vp import VPLinear


@attrs.frozen(kw_only=True)
class Shifted(Schedule):
    """Another schedule with its ratio times a factor: the log-SNR falls by 2 log(factor) at every time.

    alpha and sigma keep the law of the schedule within: alpha^2 + sigma^2 = 1, alpha + sigma = 1, or alpha = 1.
    Source: Hoogeboom et al. 2023, arXiv 2301.11093, Eq. 4 (factor = side / 64); for straight paths it is the shift of
    time in Esser et al. 2024, arXiv 2403.03206, Eq. 23.

    Args:
        schedule: What is shifted.
        factor: Above 1 for more noise.
    """

    schedule: Schedule = attrs.field(factory=VPLinear)
    factor: float = attrs.field(default=4.0, validator=gt(0))

    def __attrs_post_init__(self) -> None:
        t = (self.schedule.t_min + self.schedule.t_max) / 2
        alpha, sigma = self.schedule.alpha(t), self.schedule.sigma(t)
        laws = (alpha**2 + sigma**2, alpha + sigma, alpha)
        if not any(abs(law - 1) < 1e-9 for law in laws):
            raise PartError(
                f"{type(self.schedule).__name__} has not alpha^2 + sigma^2 = 1 alpha + sigma = 1 or alpha = 1, "
                "so it cannot be shifted: use vp-linear, vp-cosine, rectified-flow, ve or edm"
            )

    @property
    def diffuses(self) -> bool:  # pyright: ignore[reportIncompatibleVariableOverride]  a constant of other schedules
        return self.schedule.diffuses

    @property
    def trainable(self) -> bool:  # pyright: ignore[reportIncompatibleVariableOverride]  as above
        return self.schedule.trainable

    @property
    def default_grid(self) -> str:  # pyright: ignore[reportIncompatibleVariableOverride]  as above
        return self.schedule.default_grid

    @property
    def default_noise(self) -> Mapping[str, Any]:  # pyright: ignore[reportIncompatibleVariableOverride]  as above
        law = self.schedule.default_noise
        # A law of log(ratio) moves with the ratio; one of the time is moved already.
        return {**law, "mean": law["mean"] + math.log(self.factor)} if "mean" in law else law

    @property
    def t_min(self) -> float:
        return self.schedule.t_min

    @property
    def t_max(self) -> float:
        return self.schedule.t_max

    @property
    def prior_std(self) -> float:
        return self.sigma(self.t_max)

    def _power(self) -> int:
        """P of the law alpha^p + sigma^p = 1; 0 for alpha = 1."""
        t = (self.t_min + self.t_max) / 2
        alpha, sigma = self.schedule.alpha(t), self.schedule.sigma(t)
        return 0 if abs(alpha - 1) < 1e-9 else 2 if abs(alpha**2 + sigma**2 - 1) < 1e-9 else 1

    def ratio(self, t: Time) -> Time:
        return self.schedule.ratio(t) * self.factor

    def alpha(self, t: Time) -> Time:
        r, power = self.ratio(t), self._power()
        size: Any = r * 0 + 1 if power == 0 else 1 + r if power == 1 else functions(t).sqrt(1 + r * r)
        return 1 / size

    def sigma(self, t: Time) -> Time:
        return self.ratio(t) * self.alpha(t)

    def f(self, t: Time) -> Time:
        sigma, power = self.sigma(t), self._power()
        return -(sigma**power) * self._pace(t) if power else t * 0

    def g2(self, t: Time) -> Time:
        return 2 * self.sigma(t) ** 2 * self._pace(t)

    def _pace(self, t: Time) -> Time:
        """D log ratio / dt, which the factor leaves as it is."""
        return self.schedule.g2(t) / (2 * self.schedule.sigma(t) ** 2)

    def t_of_ratio(self, ratio: Time) -> Time:
        return self.schedule.t_of_ratio(ratio / self.factor)
