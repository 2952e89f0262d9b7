"""Euler's and Heun's method along the straight paths of a flow."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import attrs

from msdk.errors import PartError
from msdk.samplers.base import Denoise, Noise, OneCallSampler
from msdk.schedules.base import Schedule

if TYPE_CHECKING:
    from torch import Tensor


@attrs.frozen(kw_only=True)
class FlowEuler(OneCallSampler):
    """x_s = x_t + (s - t) v with the velocity v = eps - x_0 of a straight path: DDIM on such a schedule.

    Source: Lipman et al. 2023, arXiv 2210.02747; Liu et al. 2023, arXiv 2209.03003.
    """

    @property
    def order(self) -> int:
        return 1

    def check(self, schedule: Schedule, steps: int) -> None:
        refuse_curved_paths(schedule)

    def init(self, times: Sequence[float]) -> None:
        return None

    def step(
        self, denoise: Denoise, schedule: Schedule, x_t: "Tensor", t: float, s: float, memory: None, noise: Noise
    ) -> "tuple[Tensor, None]":
        return x_t + (s - t) * velocity(x_t, denoise(x_t, t), schedule, t), None


@attrs.frozen(kw_only=True)
class FlowHeun(OneCallSampler):
    """x_s = x_t + (s - t) (v_t + v_s) / 2, where x_s is first reached by Euler's method; a step to 0 is Euler's.

    Source: as of `flow-euler`.
    """

    @property
    def order(self) -> int:
        return 2

    def check(self, schedule: Schedule, steps: int) -> None:
        refuse_curved_paths(schedule)

    def calls(self, steps: int) -> list[int]:
        return [*[2] * steps, *[1] * self.final_denoise]

    def init(self, times: Sequence[float]) -> None:
        return None

    def step(
        self, denoise: Denoise, schedule: Schedule, x_t: "Tensor", t: float, s: float, memory: None, noise: Noise
    ) -> "tuple[Tensor, None]":
        v_t = velocity(x_t, denoise(x_t, t), schedule, t)
        x_s = x_t + (s - t) * v_t
        if s == 0:
            return x_s, None
        return x_t + (s - t) / 2 * (v_t + velocity(x_s, denoise(x_s, s), schedule, s)), None


def velocity(x_t: "Tensor", x_0: "Tensor", schedule: Schedule, t: float) -> "Tensor":
    """Eps - x_0, where eps = (x_t - alpha x_0) / sigma."""
    return (x_t - schedule.alpha(t) * x_0) / schedule.sigma(t) - x_0


def refuse_curved_paths(schedule: Schedule) -> None:
    """Raises `PartError` for a schedule whose paths are not straight: alpha = 1 - t, sigma = t."""
    t = schedule.t_max / 2
    if abs(schedule.alpha(t) - (1 - t)) > 1e-9 or abs(schedule.sigma(t) - t) > 1e-9:
        raise PartError(
            f"{type(schedule).__name__}'s paths are no straight lines: use the schedule rectified-flow, or another "
            "sampler, such as heun"
        )
