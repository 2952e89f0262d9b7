"""DPM-Solver++: multistep solvers in the data prediction."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar

import attrs

from msdk.samplers.base import Denoise, Noise, OneCallSampler
from msdk.schedules.base import Schedule

if TYPE_CHECKING:
    from torch import Tensor


@attrs.frozen
class Previous:
    """Memory of a two-step method: the last node and what the network said there; the step that must be of order 1."""

    t: float
    x_0: "Tensor | None"
    first_order_at: float


@attrs.frozen(kw_only=True)
class DPMpp2M(OneCallSampler):
    """Second-order multistep DPM-Solver++.

    With h = lam_s - lam_t, r = (lam_t - lam_previous) / h and D = x_0 + (x_0 - x_0 previous) / (2 r):
    x_s = sigma_s / sigma_t x_t - alpha_s (exp(-h) - 1) D. The first step uses D = x_0.
    Source: Lu et al. 2022, arXiv 2211.01095, Algorithm 2.

    Args:
        lower_order_final: With fewer than 10 steps, take the last one at first order, which is steadier.
    """

    order: ClassVar[int] = 2
    lower_order_final: bool = True

    def init(self, times: Sequence[float]) -> Previous:
        nodes = [t for t in times if t > 0]
        few = self.lower_order_final and len(nodes) <= 10
        return Previous(t=math.nan, x_0=None, first_order_at=nodes[-2] if few and len(nodes) > 1 else math.nan)

    def step(
        self, denoise: Denoise, schedule: Schedule, x_t: "Tensor", t: float, s: float, memory: Previous, noise: Noise
    ) -> "tuple[Tensor, Previous]":
        x_0 = denoise(x_t, t)
        following = Previous(t=t, x_0=x_0, first_order_at=memory.first_order_at)
        if s == 0:
            return x_0, following
        h = schedule.lam(s) - schedule.lam(t)
        estimate = x_0
        if memory.x_0 is not None and t != memory.first_order_at:
            r = (schedule.lam(t) - schedule.lam(memory.t)) / h
            estimate = x_0 + (x_0 - memory.x_0) / (2 * r)
        x_s = schedule.sigma(s) / schedule.sigma(t) * x_t - schedule.alpha(s) * math.expm1(-h) * estimate
        return x_s, following
