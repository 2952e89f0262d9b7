"""Heun's method on the probability-flow ODE, as EDM samples."""

from typing import TYPE_CHECKING

import attrs

from msdk.samplers.ratio_space import Churn, Draw, Estimate, euler

if TYPE_CHECKING:
    from torch import Tensor


@attrs.frozen(kw_only=True)
class Heun(Churn):
    """Trapezoid steps of dy/dr = (y - x_0) / r in y = x / alpha and r = sigma / alpha; the last one is Euler's.

    The grid has `steps` nodes and then the clean image, so 18 steps make 35 calls.
    Source: Karras et al. 2022, arXiv 2206.00364, Algorithms 1 (deterministic) and 2 (churn).
    """

    @property
    def order(self) -> int:
        return 2

    def calls(self, steps: int) -> list[int]:
        return [2] * (steps - 1) + [1]

    def move(
        self, estimate: Estimate, y: "Tensor", a: float, b: float, memory: int, draw: Draw
    ) -> "tuple[Tensor, int]":
        y, up = self.raised(y, a, b, memory, draw)
        x_0 = estimate(y, up)
        predicted = euler(y, x_0, up, b)
        if b == 0:
            return predicted, memory
        slopes = (y - x_0) / up + (predicted - estimate(predicted, b)) / b
        return y + (b - up) / 2 * slopes, memory
