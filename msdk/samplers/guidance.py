"""Guidance: a wrapper around an estimate of x_0, which any sampler takes as its network."""

from collections.abc import Callable
from typing import TYPE_CHECKING

import attrs

from msdk.batch import Condition
from msdk.samplers.base import Denoise
from msdk.schedules.base import Schedule

if TYPE_CHECKING:
    from torch import Tensor

Estimate = Callable[["Tensor", float, Condition], "Tensor"]
"""`estimate(x_t, t, condition)` estimates x_0 of images under their conditions."""


@attrs.frozen(kw_only=True)
class Guidance:
    """x_0 = x_0(no class) + w (x_0(class) - x_0(no class)) inside an interval of ratio, x_0(class) outside of it.

    With another network, a worse one of the same data, its estimate under the same condition stands for that without a
    class; it needs no classes (autoguidance).

    Source: Ho and Salimans 2022, arXiv 2207.12598; the interval: Kynkaanniemi et al. 2024, arXiv 2404.07724; another
    network: Karras et al. 2024, arXiv 2406.02507, Eq. 4.

    Args:
        weight: w; 1 is the plain conditional estimate, 0 the one without a class: neither costs a second evaluation.
        interval: Guided where low < ratio <= high, so that neighbouring intervals share no level; None guides at all.
        another: Whether another network guides, see `around`.
    """

    weight: float = 1.0
    interval: tuple[float, float] | None = None
    another: bool = False

    def _inside(self, ratio: float) -> bool:
        low, high = self.interval or (-1.0, float("inf"))
        return low < ratio <= high

    def evaluations(self, ratio: float) -> int:
        """Network evaluations per image of a call at a ratio: 2 where it makes both estimates, else 1."""
        return 2 if not self.another and self.weight not in (0, 1) and self._inside(ratio) else 1

    def of_another(self, ratio: float) -> int:
        """Evaluations of the other network that a call at a ratio needs beside: 1 where that guides, else 0."""
        return int(self.another and self.weight != 1 and self._inside(ratio))

    def around(
        self, estimate: Estimate, schedule: Schedule, label: "Condition | Tensor", another: Estimate | None = None
    ) -> Denoise:
        """What a sampler calls instead of the network.

        Both estimates run as one batch of twice the size, at one time, so in one stage; those of two networks one
        behind the other.

        Args:
            estimate: The conditional network, a `Denoiser` for example.
            schedule: Gives the ratio of a time.
            label: A whole condition, or class numbers int64 [batch], on the device of the images.
            another: The other network, where one guides.
        """
        import torch

        condition = Condition.of(label)
        without = condition.without()
        both = condition.beside(without)

        def denoise(x_t: "Tensor", t: float) -> "Tensor":
            ratio = schedule.ratio(t)
            if self.another and another is not None:
                if not self.of_another(ratio):
                    return estimate(x_t, t, condition)
                worse = another(x_t, t, condition)
                return worse + self.weight * (estimate(x_t, t, condition) - worse)
            if self.evaluations(ratio) == 1:
                classless = self.weight == 0 and self._inside(ratio)
                return estimate(x_t, t, without if classless else condition)
            conditional, unconditional = estimate(torch.cat([x_t, x_t]), t, both).chunk(2)
            return unconditional + self.weight * (conditional - unconditional)

        return denoise
