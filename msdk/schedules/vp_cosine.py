"""The cosine schedule in continuous time."""

import math

import attrs
from attrs.validators import ge, gt, lt

from msdk.schedules.base import Schedule, Time, functions


@attrs.frozen(kw_only=True)
class VPCosine(Schedule):
    """alpha(t) = cos(pi/2 (t + offset) / (1 + offset)) / cos(pi/2 offset / (1 + offset)), alpha^2 + sigma^2 = 1.

    Source: Nichol and Dhariwal 2021, arXiv 2102.09672, Eq. 17; in continuous time, and cut off before alpha vanishes,
    as DPM-Solver has it (Lu et al. 2022, arXiv 2206.00927, appendix D.4).

    Args:
        offset: Keeps sigma from vanishing too fast near the data; 0 is the path "GVP" of SiT (Ma et al. 2024, arXiv
            2401.08740), alpha = cos(pi/2 t), sigma = sin(pi/2 t).
        t_end: The largest time, below 1.
    """

    offset: float = attrs.field(default=0.008, validator=ge(0))
    t_end: float = attrs.field(default=0.9946, validator=[gt(0), lt(1)])

    @property
    def t_min(self) -> float:
        return 0.0

    @property
    def t_max(self) -> float:
        return self.t_end

    @property
    def prior_std(self) -> float:
        return 1.0

    def _angle(self, t: Time) -> Time:
        return (t + self.offset) / (1 + self.offset) * (math.pi / 2)

    def log_alpha(self, t: Time) -> Time:
        maths = functions(t)
        return maths.log(maths.cos(self._angle(t))) - math.log(math.cos(self._angle(0.0)))

    def alpha(self, t: Time) -> Time:
        return functions(t).exp(self.log_alpha(t))

    def sigma(self, t: Time) -> Time:
        maths = functions(t)
        # 1 - alpha^2 = sin(a - b) sin(a + b) / cos(b)^2, with angles a at t and b at 0: nothing cancels near the data.
        angle, first = self._angle(t), self._angle(0.0)
        return maths.sqrt(maths.sin(angle - first) * maths.sin(angle + first)) / math.cos(first)

    def f(self, t: Time) -> Time:
        return -functions(t).tan(self._angle(t)) * (math.pi / 2 / (1 + self.offset))

    def g2(self, t: Time) -> Time:
        return -2 * self.f(t)

    def t_of_ratio(self, ratio: Time) -> Time:
        maths = functions(ratio)
        first = self._angle(0.0)
        # cos(a) = cos(b) / sqrt(1 + ratio^2), so tan(a)^2 = (ratio^2 + sin(b)^2) / cos(b)^2.
        tangent = maths.sqrt(ratio * ratio + math.sin(first) ** 2) / math.cos(first)
        return maths.atan(tangent) * (2 / math.pi) * (1 + self.offset) - self.offset
