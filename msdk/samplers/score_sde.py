"""score_sde's samplers: predictor-corrector, Euler-Maruyama, and the probability-flow ODE with adaptive steps."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar, Literal

import attrs
from attrs.validators import ge, gt

from msdk.errors import PartError
from msdk.samplers.base import Denoise, Noise, OneCallSampler, Sampler
from msdk.samplers.grids import time_grid
from msdk.samplers.runge_kutta import integrate, scipys_steps
from msdk.schedules.base import Schedule
from msdk.schedules.sub_vp import SubVP
from msdk.schedules.ve import VE
from msdk.schedules.vp import VPLinear

if TYPE_CHECKING:
    from torch import Tensor


def score(denoise: Denoise, schedule: Schedule, x: "Tensor", t: float) -> "Tensor":
    """The gradient of log p_t: (alpha x_0 - x) / sigma^2."""
    return (schedule.alpha(t) * denoise(x, t) - x) / schedule.sigma(t) ** 2


def refuse_flows(schedule: Schedule) -> None:
    """Raises `PartError` for a schedule that is no diffusion, or does not say its drift."""
    if not schedule.diffuses:
        raise PartError(
            f"{type(schedule).__name__} is a flow, not a diffusion, so no SDE sampler can run it: use flow-euler, "
            "flow-heun or another ODE sampler, or a schedule such as vp-linear"
        )
    schedule.g2(schedule.t_max)


@attrs.frozen(kw_only=True)
class EulerMaruyama(OneCallSampler):
    """x_s = x_t + (s - t) (f x_t - g^2 score) + g sqrt(t - s) z on the reverse SDE.

    Source: Song et al. 2021, arXiv 2011.13456, Eq. 6.
    """

    stochastic: ClassVar[bool] = True

    @property
    def order(self) -> int:
        return 1

    def check(self, schedule: Schedule, steps: int) -> None:
        refuse_flows(schedule)

    def init(self, times: Sequence[float]) -> None:
        return None

    def step(
        self, denoise: Denoise, schedule: Schedule, x_t: "Tensor", t: float, s: float, memory: None, noise: Noise
    ) -> "tuple[Tensor, None]":
        if s == 0:
            return denoise(x_t, t), None
        drift = schedule.f(t) * x_t - schedule.g2(t) * score(denoise, schedule, x_t, t)
        return x_t + (s - t) * drift + math.sqrt(schedule.g2(t) * (t - s)) * noise(x_t, t, s), None


@attrs.frozen(kw_only=True)
class PredictorCorrector(Sampler):
    """Each of N steps corrects x at a time by Langevin dynamics, then predicts it at the next; the last has no noise.

    Predictors, with the steps (F, G) of a discretised SDE: "reverse-diffusion" x - F + G^2 score + G z;
    "euler-maruyama" the same with F = f x / N, G^2 = g^2 / N; "ancestral" that of DDPM and SMLD. Correctors:
    "langevin" x + e score + sqrt(2 e) z with e = 2 a (snr |z| / |score|)^2, "ald" with e = 2 a (snr sigma)^2;
    a = 1 - beta for VP, else 1.
    Times are even between t_max and t_end, steps are 1 / N, as published.
    Source: Song et al. 2021, arXiv 2011.13456, Algorithms 1 to 5, appendices E to G.

    Args:
        predictor: See above; "none" leaves x as it is, with the corrector's noise of the last step in it.
        corrector: See above; "none" for a predictor alone.
        snr: Signal-to-noise ratio of the corrector; 0.16 is the published one for CIFAR-10.
        corrections: Langevin steps at each time.
        probability_flow: Whether reverse diffusion follows the ODE: half the score, no noise.
        norm: Whether |z| and |score| are each image's own, or means over the batch, as published: an image then depends
            on those that are drawn with it.
        t_end: Last time.
    """

    stochastic: ClassVar[bool] = True
    predictor: Literal["reverse-diffusion", "euler-maruyama", "ancestral", "none"] = "reverse-diffusion"
    corrector: Literal["langevin", "ald", "none"] = "langevin"
    snr: float = attrs.field(default=0.16, validator=ge(0))
    corrections: int = attrs.field(default=1, validator=ge(1))
    probability_flow: bool = False
    norm: Literal["image", "batch"] = "image"
    t_end: float = attrs.field(default=1e-3, validator=gt(0))

    @property
    def order(self) -> int:
        return 1

    def check(self, schedule: Schedule, steps: int) -> None:
        refuse_flows(schedule)
        if self.predictor == self.corrector == "none":
            raise PartError("neither a predictor nor a corrector would leave the noise as it is: choose one of them")
        tabled = isinstance(schedule, (VPLinear, VE)) and not isinstance(schedule, SubVP)
        if (self.predictor == "ancestral" or self.corrector != "none") and not tabled:
            raise PartError(
                f"the {self.predictor} predictor with the {self.corrector} corrector is of VP and VE alone, not of "
                f"{type(schedule).__name__}: use the schedule vp-linear or ve, or predictor = "
                '"reverse-diffusion" with corrector = "none"'
            )
        if self.probability_flow and self.predictor != "reverse-diffusion":
            raise PartError("probability_flow is of the predictor reverse-diffusion alone: use that one, or pf-ode")
        if isinstance(schedule, VPLinear) and tabled and steps <= schedule.beta_max:
            raise PartError(
                f"the discretised VP of {steps} steps would add more noise than there is room for: use more than "
                f"{schedule.beta_max:g} steps"
            )
        if steps < 2:
            raise PartError(f"predictor-corrector needs at least 2 steps, got {steps}")

    def times(self, schedule: Schedule, steps: int) -> list[float]:
        return [*time_grid("uniform-t", schedule, max(steps - 1, 1), self.t_end, 1.0), 0.0]

    def calls(self, steps: int) -> list[int]:
        corrections = 0 if self.corrector == "none" else self.corrections
        return [corrections + (self.predictor != "none")] * max(steps, 2)

    def init(self, times: Sequence[float]) -> int:
        return len(times) - 1

    def step(
        self, denoise: Denoise, schedule: Schedule, x_t: "Tensor", t: float, s: float, memory: int, noise: Noise
    ) -> "tuple[Tensor, int]":
        keep, added, before = self._discrete(schedule, t, memory)
        if self.corrector != "none":
            share = keep**2 if isinstance(schedule, VPLinear) else 1.0
            for _ in range(self.corrections):
                slope, z = score(denoise, schedule, x_t, t), noise(x_t, t, s)
                if self.corrector == "langevin":
                    size = 2 * share * (self.snr * self._norm(z) / self._norm(slope)) ** 2
                else:
                    size = z * 0 + 2 * share * (self.snr * schedule.sigma(t)) ** 2
                mean = x_t + size * slope
                x_t = mean + (2 * size) ** 0.5 * z
        if self.predictor == "none":
            return x_t, memory  # its step without noise is no step, so the corrector's noise stays at the last, too
        slope = score(denoise, schedule, x_t, t)
        spread = math.sqrt(added)
        if self.predictor == "ancestral" and isinstance(schedule, VE):
            mean, spread = x_t + added * slope, math.sqrt(before * added / (before + added))
        elif self.predictor == "ancestral":
            mean = (x_t + added * slope) / keep
        else:
            half = 0.5 if self.probability_flow else 1.0
            mean = (2 - keep) * x_t + half * added * slope
        if s == 0 or self.probability_flow:
            return mean, memory
        return mean + spread * noise(x_t, t, s), memory

    def _discrete(self, schedule: Schedule, t: float, steps: int) -> tuple[float, float, float]:
        """1 + F / x and G^2 of the step at a time, and sigma^2 at the step before."""
        tabled = self.predictor in ("reverse-diffusion", "ancestral") or self.corrector != "none"
        index = int(t * (steps - 1) / schedule.t_max)
        if isinstance(schedule, VE) and tabled:
            low, high = math.log(schedule.sigma_min), math.log(schedule.sigma_max)
            level = [math.exp(low + (high - low) * max(k, 0) / (steps - 1)) ** 2 for k in (index - 1, index)]
            before = level[0] if index > 0 else 0.0
            return 1.0, level[1] - before, before
        if isinstance(schedule, VPLinear) and not isinstance(schedule, SubVP) and tabled:
            beta = (schedule.beta_min + (schedule.beta_max - schedule.beta_min) * index / (steps - 1)) / steps
            return math.sqrt(1 - beta), beta, 0.0
        pace = schedule.t_max / steps
        return 1 + schedule.f(t) * pace, schedule.g2(t) * pace, 0.0

    def _norm(self, values: "Tensor") -> "Tensor":
        norms = values.flatten(1).norm(dim=1)
        norms = norms.mean() if self.norm == "batch" else norms
        return norms.view(-1, *[1] * (values.ndim - 1))


@attrs.frozen(kw_only=True)
class ProbabilityFlow(Sampler):
    """dx / dt = f x - g^2 score / 2 by Dormand and Prince's method with adaptive steps. `steps` does not matter.

    Source: Song et al. 2021, arXiv 2011.13456, Eq. 13 and appendix D.

    Args:
        tolerance: Relative and absolute.
        t_end: Last time; the schedule's `t_min` if that is larger.
    """

    adaptive: ClassVar[bool] = True
    tolerance: float = attrs.field(default=1e-5, validator=gt(0))
    t_end: float = attrs.field(default=1e-3, validator=gt(0))

    @property
    def order(self) -> int:
        return 5

    def check(self, schedule: Schedule, steps: int) -> None:
        schedule.g2(schedule.t_max)  # says so where there is none

    def times(self, schedule: Schedule, steps: int) -> list[float]:
        return time_grid("uniform-t", schedule, 1, self.t_end, 1.0)

    def calls(self, steps: int) -> list[int]:
        return [8]  # two to choose the first step, six to make it

    def init(self, times: Sequence[float]) -> None:
        return None

    def step(
        self, denoise: Denoise, schedule: Schedule, x_t: "Tensor", t: float, s: float, memory: None, noise: Noise
    ) -> "tuple[Tensor, None]":
        def slope(u: float, x: "Tensor") -> "Tensor":
            return schedule.f(u) * x - schedule.g2(u) / 2 * score(denoise, schedule, x, u)

        return integrate(slope, x_t, t, s, scipys_steps(self.tolerance)), None
