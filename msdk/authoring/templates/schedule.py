"""A noise schedule: alpha and sigma over time, and the inverse of their ratio."""

import attrs
from attrs.validators import gt

from msdk.schedules.base import Schedule, Time, functions


@attrs.frozen(kw_only=True)
class MySchedule(Schedule):
    """Variance-preserving, with a log ratio that grows evenly: ratio = low^(1 - t) high^t.

    Args:
        low: sigma / alpha at t = 0.
        high: sigma / alpha at t = 1.
    """

    low: float = attrs.field(default=0.01, validator=gt(0))
    high: float = attrs.field(default=150.0, validator=gt(0))

    @property
    def t_min(self) -> float:
        return 0.0

    @property
    def t_max(self) -> float:
        return 1.0

    @property
    def prior_std(self) -> float:
        return self.sigma(self.t_max)

    def ratio(self, t: Time) -> Time:
        # `functions` is math for floats and torch for tensors, so one formula serves both.
        maths = functions(t)
        return self.low * maths.exp(t * self._growth)

    def alpha(self, t: Time) -> Time:
        ratio = self.ratio(t)
        return 1 / functions(t).sqrt(1 + ratio * ratio)

    def sigma(self, t: Time) -> Time:
        return self.ratio(t) * self.alpha(t)

    def t_of_ratio(self, ratio: Time) -> Time:
        return functions(ratio).log(ratio / self.low) / self._growth

    @property
    def _growth(self) -> float:
        return functions(1.0).log(self.high / self.low)
