"""Variance-preserving schedules: alpha^2 + sigma^2 = 1."""

import attrs
from attrs.validators import gt

from msdk.schedules.base import Schedule, Time, functions, linear_beta_time, refuse_falling_beta


@attrs.frozen(kw_only=True)
class VPLinear(Schedule):
    """The linear-beta diffusion of DDPM in continuous time, on t in [0, 1].

    log alpha(t) = -t^2 (beta_1 - beta_0) / 4 - t beta_0 / 2.
    Source: Song et al. 2021, arXiv 2011.13456, Eq. 32; the paper's section 2 uses the same constants.

    Args:
        beta_min: beta_0, the rate at t = 0.
        beta_max: beta_1, the rate at t = 1.
    """

    beta_min: float = attrs.field(default=0.1, validator=gt(0))
    beta_max: float = attrs.field(default=20.0, validator=gt(0))

    def __attrs_post_init__(self) -> None:
        refuse_falling_beta(self.beta_min, self.beta_max)

    @property
    def t_min(self) -> float:
        return 0.0

    @property
    def t_max(self) -> float:
        return 1.0

    @property
    def prior_std(self) -> float:
        return 1.0

    def log_alpha(self, t: Time) -> Time:
        return -t * (t * (self.beta_max - self.beta_min) / 4 + self.beta_min / 2)

    def alpha(self, t: Time) -> Time:
        return functions(t).exp(self.log_alpha(t))

    def sigma(self, t: Time) -> Time:
        maths = functions(t)
        return maths.sqrt(-maths.expm1(2 * self.log_alpha(t)))

    def beta(self, t: Time) -> Time:
        """The rate at which noise comes: beta_0 + t (beta_1 - beta_0)."""
        return self.beta_min + t * (self.beta_max - self.beta_min)

    def f(self, t: Time) -> Time:
        return -self.beta(t) / 2

    def g2(self, t: Time) -> Time:
        return self.beta(t)

    def t_of_ratio(self, ratio: Time) -> Time:
        return linear_beta_time(functions(ratio).log1p(ratio * ratio), self.beta_min, self.beta_max)
