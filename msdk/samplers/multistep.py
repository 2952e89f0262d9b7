"""What multistep samplers share: earlier estimates as memory, and lower orders until there are enough of them."""

import abc
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import attrs

from msdk.errors import PartError
from msdk.samplers.base import Denoise, Noise, OneCallSampler, Sampler
from msdk.schedules.base import Schedule

if TYPE_CHECKING:
    from torch import Tensor


@attrs.frozen
class History:
    """Memory of a multistep method.

    Attributes:
        steps: Steps in all, without one that lands on the clean image.
        step: Number of the newest node's step, from 1; 0 before the first.
        nodes: (place, estimate) of the last steps, the newest first: as many as the method's order, once there are as
            many. A place is a time, or a ratio.
    """

    steps: int
    step: int = 0
    nodes: tuple[tuple[float, Any], ...] = ()

    @property
    def left(self) -> int:
        """Steps from the newest node on, its own included: the order that is left for methods that end at a low one."""
        return self.steps - self.step + 1

    def after(self, place: float, estimate: Any, order: int) -> "History":
        """With one more node, and no more than `order` of them."""
        return History(self.steps, self.step + 1, ((place, estimate), *self.nodes)[:order])


class Multistep(Sampler):
    """A sampler that uses as many estimates as its order, once there are as many.

    Its memory, which `step` or `move` passes through, is a `History`.
    """

    @property
    def convergence(self) -> int:
        return min(self.order, 2)  # the first step has one estimate, and its error of order 2 remains

    def check(self, schedule: Schedule, steps: int) -> None:
        if steps < self.order:
            raise PartError(
                f"{steps} steps are below the order {self.order}: use at least {self.order} steps, or a lower order"
            )

    def init(self, times: Sequence[float]) -> Any:
        return History(sum(t > 0 for t in times) - 1)


@attrs.frozen(kw_only=True)
class OneCallMultistep(Multistep, OneCallSampler):
    """A multistep sampler that calls the network once, at the start of each interval: `estimate`, then `advance`.

    A step to 0 returns the estimate of x_0.

    Args:
        order: Estimates that are used, once there are as many.
    """

    order: int  # pyright: ignore[reportIncompatibleMethodOverride]  a field may take a property's place

    def step(
        self, denoise: Denoise, schedule: Schedule, x_t: "Tensor", t: float, s: float, memory: History, noise: Noise
    ) -> "tuple[Tensor, History]":
        x_0 = denoise(x_t, t)
        if s == 0:
            return x_0, memory
        past = memory.after(t, self.estimate(schedule, x_t, x_0, t, memory), self.order)
        return self.advance(schedule, x_t, s, past), past

    @abc.abstractmethod
    def estimate(self, schedule: Schedule, x_t: "Tensor", x_0: "Tensor", t: float, memory: History) -> Any:
        """What the method keeps of a network call: the noise in x_t, for example."""

    @abc.abstractmethod
    def advance(self, schedule: Schedule, x_t: "Tensor", s: float, past: History) -> "Tensor":
        """x_s, from x_t at the newest of the nodes."""
