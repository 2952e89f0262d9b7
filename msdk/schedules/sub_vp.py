"""The sub-VP schedule of score_sde."""

import attrs

from msdk.schedules.base import Time, functions, linear_beta_time
from msdk.schedules.vp import VPLinear


@attrs.frozen(kw_only=True)
class SubVP(VPLinear):
    """alpha as of the linear-beta diffusion, with less noise: sigma = 1 - alpha^2.

    Source: Song et al. 2021, arXiv 2011.13456, Eq. 29.
    """

    def sigma(self, t: Time) -> Time:
        return -functions(t).expm1(2 * self.log_alpha(t))

    def g2(self, t: Time) -> Time:
        return self.beta(t) * -functions(t).expm1(4 * self.log_alpha(t))

    def t_of_ratio(self, ratio: Time) -> Time:
        # 1 / alpha - alpha = ratio, so alpha = 1 / (q + sqrt(1 + q^2)) with q = ratio / 2: log alpha = -asinh(q).
        excess = 2 * functions(ratio).asinh(ratio / 2)
        return linear_beta_time(excess, self.beta_min, self.beta_max)
