"""A sampler: a grid of times, and one step from a time to the next."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import attrs

from msdk.samplers.base import Denoise, Noise, OneCallSampler
from msdk.schedules.base import Schedule

if TYPE_CHECKING:
    from torch import Tensor


@attrs.frozen(kw_only=True)
class MySampler(OneCallSampler):
    """Keeps the noise that x_t holds by the denoiser's estimate of x_0, and less of it at each step.

    The other fields, grid, rho, t_end and final_denoise, are those of every sampler with one call per step.
    """

    @property
    def order(self) -> int:
        return 1

    def init(self, times: Sequence[float]) -> None:
        # What the first step is given as memory. A multistep method returns its last estimates from `step` instead.
        return None

    def step(
        self, denoise: Denoise, schedule: Schedule, x_t: "Tensor", t: float, s: float, memory: None, noise: Noise
    ) -> "tuple[Tensor, None]":
        x_0 = denoise(x_t, t)
        if s == 0.0:
            return x_0, None  # the clean image, after a final denoising call
        eps = (x_t - schedule.alpha(t) * x_0) / schedule.sigma(t)
        return schedule.alpha(s) * x_0 + schedule.sigma(s) * eps, None
