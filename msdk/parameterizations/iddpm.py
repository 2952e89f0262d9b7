"""EDM's preconditioning of iDDPM and ADM models."""

import bisect
import functools
import math
from typing import Any

import attrs
from attrs.validators import gt

from msdk.parameterizations.base import Coefficients, Parameterization, noise_of_unit_input
from msdk.schedules.base import Schedule, Time


@functools.cache
def noise_levels(steps: int, c_1: float, c_2: float) -> tuple[float, ...]:
    """The steps + 1 noise levels u_0 > ... > u_M = 0 of iDDPM's cosine schedule."""

    def alpha_bar(j: int) -> float:
        return math.sin(0.5 * math.pi * j / steps / (c_2 + 1)) ** 2

    found = [0.0]
    for j in range(steps, 0, -1):
        found.append(math.sqrt((found[-1] ** 2 + 1) / max(alpha_bar(j - 1) / alpha_bar(j), c_1) - 1))
    return tuple(reversed(found))


@attrs.frozen(kw_only=True)
class IDDPM(Parameterization):
    """Noise prediction from inputs of unit variance; the network is fed the number of the nearest step.

    With r = sigma / alpha and y = x_t / alpha: x_0 = y - r F(y / sqrt(r^2 + 1), M - 1 - argmin_j |u_j - r|).
    Source: Karras et al. 2022, arXiv 2206.00364, Table 1, column iDDPM, and Eq. 199.

    Args:
        steps: M, the number of steps.
        c_1: Bound on the ratio of two steps.
        c_2: Offset of the cosine.
    """

    steps: int = attrs.field(default=1000, validator=gt(1))
    c_1: float = attrs.field(default=0.001, validator=gt(0))
    c_2: float = attrs.field(default=0.008, validator=gt(0))

    def coefficients(self, schedule: Schedule, t: Time) -> Coefficients[Time]:
        ratio = schedule.ratio(t)
        return noise_of_unit_input(schedule, t, c_noise=self.steps - 1 - self._nearest(ratio))

    def _nearest(self, ratio: Any) -> Any:
        levels = noise_levels(self.steps, self.c_1, self.c_2)
        if isinstance(ratio, float):
            right = bisect.bisect_left(levels, -ratio, key=lambda level: -level)
            near = range(max(right - 1, 0), min(right + 1, len(levels)))
            return float(min(near, key=lambda j: abs(levels[j] - ratio)))
        import torch

        table = torch.tensor(levels, dtype=ratio.dtype, device=ratio.device)
        return (ratio[..., None] - table).abs().argmin(dim=-1).to(ratio.dtype)
