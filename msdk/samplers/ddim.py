"""DDIM: the first-order solver, deterministic or not."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar

import attrs
from attrs.validators import ge, le

from msdk.samplers.base import Denoise, Noise, OneCallSampler
from msdk.schedules.base import Schedule

if TYPE_CHECKING:
    from torch import Tensor


@attrs.frozen(kw_only=True)
class DDIM(OneCallSampler):
    """x_s = alpha_s x_0 + sqrt(sigma_s^2 - up^2) eps + up z, with x_0 and eps from one network call at t.

    up = eta sigma_s sqrt(1 - (ratio_s / ratio_t)^2) is the standard deviation of fresh noise z.
    Source: Song et al. 2021, arXiv 2010.02502, Eq. 12 and 16, in the variables of any schedule.

    Args:
        eta: 0 is deterministic (and DPM-Solver-1), 1 is ancestral sampling.
    """

    repeats: ClassVar[bool] = True
    eta: float = attrs.field(default=0.0, validator=[ge(0), le(1)])

    @property
    def order(self) -> int:
        return 1

    def init(self, times: Sequence[float]) -> None:
        return None

    def step(
        self, denoise: Denoise, schedule: Schedule, x_t: "Tensor", t: float, s: float, memory: None, noise: Noise
    ) -> "tuple[Tensor, None]":
        x_0 = denoise(x_t, t)
        if s == 0:
            return x_0, None
        sigma_s = schedule.sigma(s)
        eps = (x_t - schedule.alpha(t) * x_0) / schedule.sigma(t)
        up = self.eta * sigma_s * math.sqrt(1 - (schedule.ratio(s) / schedule.ratio(t)) ** 2)
        x_s = schedule.alpha(s) * x_0 + math.sqrt(sigma_s**2 - up**2) * eps
        return (x_s + up * noise(x_t, t, s) if up > 0 else x_s), None
