"""Times whose signal-to-noise ratio is that of the cosine schedule, on straight paths."""

import math
from typing import TYPE_CHECKING

import attrs

from msdk.noise_levels.base import ShareOfTime

if TYPE_CHECKING:
    from torch import Tensor


@attrs.frozen(kw_only=True)
class CosMap(ShareOfTime):
    """x = 1 - 1 / (tan(pi/2 u) + 1), u ~ U(0, 1), of the share x of time; the density is 2 / (pi - 2 pi x + 2 pi x^2).

    Source: Esser et al. 2024, arXiv 2403.03206, Eq. 21.
    """

    def below(self, x: float) -> float:
        return math.atan2(x, 1 - x) * (2 / math.pi)

    def share(self, u: "Tensor") -> "Tensor":
        angle = u * (math.pi / 2)
        return angle.sin() / (angle.sin() + angle.cos())
