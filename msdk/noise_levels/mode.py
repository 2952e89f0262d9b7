"""The heavy-tailed times of Stable Diffusion 3."""

import math
from typing import TYPE_CHECKING

import attrs
from attrs.validators import ge, lt

from msdk.noise_levels.base import ShareOfTime

if TYPE_CHECKING:
    from torch import Tensor


@attrs.frozen(kw_only=True)
class Mode(ShareOfTime):
    """x = 1 - u - scale (cos(pi/2 u)^2 - 1 + u), u ~ U(0, 1), of the share x of time: heavy tails around the mode.

    Source: Esser et al. 2024, arXiv 2403.03206, Eq. 20.

    Args:
        scale: Above 0 favours the middle, below 0 both ends, 0 is even; from -1 to below 2 / (pi - 2).
    """

    scale: float = attrs.field(default=1.29, validator=[ge(-1), lt(2 / (math.pi - 2))])

    def below(self, x: float) -> float:
        low, high = 0.0, 1.0  # the share rises in u, whose inverse has no closed form
        for _ in range(60):
            middle = (low + high) / 2
            found = middle - self.scale * (math.sin(math.pi / 2 * middle) ** 2 - middle)
            low, high = (middle, high) if found < x else (low, middle)
        return (low + high) / 2

    def share(self, u: "Tensor") -> "Tensor":
        # sin(pi/2 u)^2 is cos(pi/2 (1 - u))^2: u of the equation falls where a quantile rises.
        return u - self.scale * ((u * (math.pi / 2)).sin() ** 2 - u)
