"""The midpoint method in log r, deterministic and ancestral (k-diffusion's DPM2)."""

import math
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import attrs
from attrs.validators import ge

from msdk.samplers.ratio_space import Churn, Draw, Estimate, RatioSampler, ancestral, euler

if TYPE_CHECKING:
    from torch import Tensor

Midpoint = Literal["geometric", "cubic"]


def middle(a: float, b: float, midpoint: Midpoint) -> float:
    """Between a and b: sqrt(a b), or ((a^(1/3) + b^(1/3)) / 2)^3."""
    return math.sqrt(a * b) if midpoint == "geometric" else ((a ** (1 / 3) + b ** (1 / 3)) / 2) ** 3


@attrs.frozen(kw_only=True)
class DPM2(Churn):
    """y_b = y_a + (b - a) (y_m - x_0 at y_m) / m, where m lies between a and b and y_m is reached by Euler's method.

    Source: Karras et al. 2022, arXiv 2206.00364, Algorithm 2 with DPM-Solver-2's midpoint (Lu et al. 2022, arXiv
    2206.00927); the last step, to r = 0, is Euler's where the midpoint is geometric.

    Args:
        midpoint: Of ratios: "geometric", or of their cube roots.
    """

    midpoint: Midpoint = "geometric"

    @property
    def order(self) -> int:
        return 2

    def calls(self, steps: int) -> list[int]:
        return [2] * (steps - 1) + [1 if self.midpoint == "geometric" else 2]

    def move(
        self, estimate: Estimate, y: "Tensor", a: float, b: float, memory: int, draw: Draw
    ) -> "tuple[Tensor, int]":
        y, up = self.raised(y, a, b, memory, draw)
        return half_way(estimate, y, up, b, self.midpoint), memory


@attrs.frozen(kw_only=True)
class DPM2Ancestral(RatioSampler):
    """`dpm2` to sqrt(b^2 - up^2), then noise of standard deviation up, see `euler-ancestral`.

    Args:
        eta: Share of the noise that is renewed.
        scale: Factor of the noise.
    """

    stochastic: ClassVar[bool] = True
    eta: float = attrs.field(default=1.0, validator=ge(0))
    scale: float = attrs.field(default=1.0, validator=ge(0))

    @property
    def order(self) -> int:
        return 2

    def calls(self, steps: int) -> list[int]:
        return [2] * (steps - 1) + [1]

    def move(
        self, estimate: Estimate, y: "Tensor", a: float, b: float, memory: Any, draw: Draw
    ) -> "tuple[Tensor, Any]":
        down, up = ancestral(a, b, self.eta)
        y = half_way(estimate, y, a, down, "geometric")
        return (y + self.scale * up * draw(y, a, b) if up else y), memory


def half_way(estimate: Estimate, y: "Tensor", a: float, b: float, midpoint: Midpoint) -> "Tensor":
    """The midpoint step from a to b; Euler's to 0."""
    x_0 = estimate(y, a)
    if b == 0 and midpoint == "geometric":  # which would be 0
        return x_0
    m = middle(a, b, midpoint)
    y_m = euler(y, x_0, a, m)
    return y + (b - a) / m * (y_m - estimate(y_m, m))
