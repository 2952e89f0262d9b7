"""Sampling with a consistency model: clean, add noise again, clean again."""

from typing import TYPE_CHECKING, Any, ClassVar

import attrs

from msdk.samplers.ratio_space import Draw, Estimate, RatioSampler

if TYPE_CHECKING:
    from torch import Tensor


@attrs.frozen(kw_only=True)
class Consistency(RatioSampler):
    """y_b = x_0 + sqrt(b^2 - floor^2) z, where x_0 is what the model makes of y_a in one call.

    Source: Song et al. 2023, arXiv 2303.01469, Algorithm 1.

    Args:
        floor: Smallest ratio, at which the model's output is the identity; 0.002 in the published models.
    """

    stochastic: ClassVar[bool] = True
    floor: float = 0.002

    @property
    def order(self) -> int:
        return 1

    def move(
        self, estimate: Estimate, y: "Tensor", a: float, b: float, memory: Any, draw: Draw
    ) -> "tuple[Tensor, Any]":
        x_0 = estimate(y, a)
        up = max(b**2 - self.floor**2, 0.0) ** 0.5
        return (x_0 + up * draw(y, a, b) if up else x_0), memory
