"""Noise levels drawn evenly on the grid of EDM."""

from typing import TYPE_CHECKING

import attrs
from attrs.validators import gt

from msdk.errors import PartError
from msdk.noise_levels.base import NoiseLevel
from msdk.schedules.base import Schedule

if TYPE_CHECKING:
    from torch import Tensor


@attrs.frozen(kw_only=True)
class Rho(NoiseLevel):
    """ratio^(1 / rho) ~ U(low^(1 / rho), high^(1 / rho)): even on EDM's time grid, between its nodes too.

    Source: Song et al. 2023, arXiv 2303.01469, Algorithms 2 and 3, which draw a node of that grid.

    Args:
        low: Lowest ratio that is drawn.
        high: Highest one.
        rho: Exponent of the grid.
    """

    low: float = attrs.field(default=0.002, validator=gt(0))
    high: float = attrs.field(default=80.0, validator=gt(0))
    rho: float = attrs.field(default=7.0, validator=gt(0))

    def __attrs_post_init__(self) -> None:
        if self.low >= self.high:
            raise PartError(f"low = {self.low} must be below high = {self.high}")

    def _ends(self) -> tuple[float, float]:
        return self.low ** (1 / self.rho), self.high ** (1 / self.rho)

    def cdf(self, schedule: Schedule, t: float) -> float:
        low, high = self._ends()
        share = (schedule.ratio(t) ** (1 / self.rho) - low) / (high - low)
        return min(max(share, 0.0), 1.0)

    def quantile(self, schedule: Schedule, u: "Tensor") -> "Tensor":
        low, high = self._ends()
        return schedule.t_of_ratio((low + u * (high - low)) ** self.rho)
