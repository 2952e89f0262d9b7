"""Ancestral sampling as DDPM does it, and PLMS, its linear multistep form."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar, Literal

import attrs

from msdk.samplers.base import Denoise, Noise, OneCallSampler
from msdk.samplers.grids import TO_CLEAN
from msdk.schedules.base import Schedule

if TYPE_CHECKING:
    from torch import Tensor


@attrs.frozen(kw_only=True)
class DDPM(OneCallSampler):
    """x_s = posterior mean of x_s given x_t and x_0, + std z.

    With a = alpha_t / alpha_s and v = sigma_t^2 - a^2 sigma_s^2:
    mean = a sigma_s^2 / sigma_t^2 x_t + alpha_s v / sigma_t^2 x_0; std^2 = v sigma_s^2 / sigma_t^2 ("small", the
    posterior's own, which is DDIM with eta = 1) or v ("large").
    Source: Ho et al. 2020, arXiv 2006.11239, Eq. 6 and 7; on fewer steps, Nichol and Dhariwal 2021, arXiv 2102.09672.

    Args:
        variance: Of the noise.
        clip: Whether estimates of x_0 are clipped to [-1, 1].
    """

    stochastic: ClassVar[bool] = True
    repeats: ClassVar[bool] = True
    variance: Literal["small", "large"] = "small"
    clip: bool = False

    @property
    def order(self) -> int:
        return 1

    def init(self, times: Sequence[float]) -> None:
        return None

    def step(
        self, denoise: Denoise, schedule: Schedule, x_t: "Tensor", t: float, s: float, memory: None, noise: Noise
    ) -> "tuple[Tensor, None]":
        x_0 = denoise(x_t, t)
        x_0 = x_0.clamp(-1, 1) if self.clip else x_0
        if s == 0:
            return x_0, None
        a, before, after = schedule.alpha(t) / schedule.alpha(s), schedule.sigma(t) ** 2, schedule.sigma(s) ** 2
        added = before - a**2 * after
        mean = a * after / before * x_t + schedule.alpha(s) * added / before * x_0
        variance = added * after / before if self.variance == "small" else added
        return (mean + math.sqrt(variance) * noise(x_t, t, s) if variance > 0 else mean), None


@attrs.frozen(kw_only=True)
class PLMS(OneCallSampler):
    """DDIM's step with the noise estimate of Adams and Bashforth over the last four; the first step is Heun's.

    eps' = (55 eps - 59 eps_1 + 37 eps_2 - 9 eps_3) / 24, and (23, -16, 5) / 12, (3, -1) / 2 on the way there. The
    weights are those of even steps, so the measured order on other grids is lower.
    Source: Liu et al. 2022, arXiv 2202.09778 (PNDM), in the form of latent diffusion.
    """

    repeats: ClassVar[bool] = True

    @property
    def order(self) -> int:
        return 2

    @property
    def convergence(self) -> int:
        return 1

    def calls(self, steps: int) -> list[int]:
        first = 1 if steps == 1 and self.grid in TO_CLEAN else 2
        return [first, *[1] * (steps - 1 + self.final_denoise)]

    def init(self, times: "Sequence[float]") -> "tuple[Tensor, ...]":
        return ()

    def step(
        self,
        denoise: Denoise,
        schedule: Schedule,
        x_t: "Tensor",
        t: float,
        s: float,
        memory: "tuple[Tensor, ...]",
        noise: Noise,
    ) -> "tuple[Tensor, tuple[Tensor, ...]]":
        if s == 0:
            return denoise(x_t, t), memory

        def eps(x: "Tensor", u: float) -> "Tensor":
            return (x - schedule.alpha(u) * denoise(x, u)) / schedule.sigma(u)

        def moved(slope: "Tensor") -> "Tensor":
            """DDIM's step."""
            change = schedule.ratio(s) - schedule.ratio(t)
            return schedule.alpha(s) * (x_t / schedule.alpha(t) + change * slope)

        found = (eps(x_t, t), *memory)[:4]
        if len(found) == 1:
            slope = (found[0] + eps(moved(found[0]), s)) / 2
        else:
            slope = mixed(ADAMS_BASHFORTH[len(found)], found)
        return moved(slope), found


def mixed(weights: Sequence[float], tensors: "Sequence[Tensor]") -> "Tensor":
    """Their weighted sum."""
    total = weights[0] * tensors[0]
    for weight, tensor in zip(weights[1:], tensors[1:], strict=True):
        total = total + weight * tensor
    return total


ADAMS_BASHFORTH = {
    1: (1.0,),
    2: (3 / 2, -1 / 2),
    3: (23 / 12, -16 / 12, 5 / 12),
    4: (55 / 24, -59 / 24, 37 / 24, -9 / 24),
}
"""Weights for even steps, the newest first."""
