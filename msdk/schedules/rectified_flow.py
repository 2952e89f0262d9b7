"""The straight paths of rectified flow and flow matching."""

from typing import ClassVar

import attrs

from msdk.schedules.base import Schedule, Time


@attrs.frozen(kw_only=True)
class RectifiedFlow(Schedule):
    """x_t = (1 - t) x_0 + t eps, on t in [0, 1).

    Source: Liu et al. 2023, arXiv 2209.03003; Lipman et al. 2023, arXiv 2210.02747.

    Args:
        t_end: The largest time, where sampling starts; at 1 itself the ratio is infinite.
    """

    diffuses: ClassVar[bool] = False
    t_end: float = attrs.field(default=1 - 1e-4)

    def __attrs_post_init__(self) -> None:
        if not 0 < self.t_end < 1:
            raise ValueError(f"t_end must lie between 0 and 1, got {self.t_end}")

    @property
    def t_min(self) -> float:
        return 0.0

    @property
    def t_max(self) -> float:
        return self.t_end

    @property
    def prior_std(self) -> float:
        return self.t_end

    def alpha(self, t: Time) -> Time:
        return 1 - t

    def sigma(self, t: Time) -> Time:
        return t

    def f(self, t: Time) -> Time:
        return -1 / (1 - t)

    def g2(self, t: Time) -> Time:
        return 2 * t / (1 - t)

    def slopes(self, t: Time) -> tuple[Time, Time]:
        return t * 0 - 1, t * 0 + 1

    def t_of_ratio(self, ratio: Time) -> Time:
        return ratio / (1 + ratio)
