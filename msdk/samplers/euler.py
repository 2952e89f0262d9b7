"""Euler's method, and with fresh noise at every step."""

from typing import TYPE_CHECKING, Any, ClassVar

import attrs
from attrs.validators import ge

from msdk.samplers.ratio_space import Churn, Draw, Estimate, RatioSampler, ancestral, euler

if TYPE_CHECKING:
    from torch import Tensor


@attrs.frozen(kw_only=True)
class Euler(Churn):
    """y_b = y_a + (b - a) (y_a - x_0) / a: DDIM on EDM's grid, and its stochastic form with churn.

    Source: Karras et al. 2022, arXiv 2206.00364, Algorithm 2 without its correction.
    """

    @property
    def order(self) -> int:
        return 1

    def move(
        self, estimate: Estimate, y: "Tensor", a: float, b: float, memory: int, draw: Draw
    ) -> "tuple[Tensor, int]":
        y, up = self.raised(y, a, b, memory, draw)
        return euler(y, estimate(y, up), up, b), memory


@attrs.frozen(kw_only=True)
class EulerAncestral(RatioSampler):
    """An Euler step down to sqrt(b^2 - up^2), then noise of standard deviation up.

    up = min(b, eta sqrt(b^2 (a^2 - b^2) / a^2)); eta = 1 is the ancestral sampling of DDPM.
    Source: Song et al. 2021, arXiv 2011.13456, appendix F, in the form of k-diffusion.

    Args:
        eta: Share of the noise that is renewed.
        scale: Factor of the noise.
    """

    stochastic: ClassVar[bool] = True
    eta: float = attrs.field(default=1.0, validator=ge(0))
    scale: float = attrs.field(default=1.0, validator=ge(0))

    @property
    def order(self) -> int:
        return 1

    def move(
        self, estimate: Estimate, y: "Tensor", a: float, b: float, memory: Any, draw: Draw
    ) -> "tuple[Tensor, Any]":
        down, up = ancestral(a, b, self.eta)
        y = euler(y, estimate(y, a), a, down)
        return (y + self.scale * up * draw(y, a, b) if up else y), memory
