"""Fewer times where the image hardly changes any more."""

from typing import TYPE_CHECKING

import attrs
from attrs.validators import gt, lt

from msdk.noise_levels.base import ShareOfTime

if TYPE_CHECKING:
    from torch import Tensor


@attrs.frozen(kw_only=True)
class Speed(ShareOfTime):
    """The share x of time has the density `factor` up to `tau`, and 1 beyond, where x_t is noise that hardly changes.

    Source: Wang et al. 2024, arXiv 2405.17403 (SpeeD), section 3.3: factor k = 5, tau = 700 of 1000 steps.

    Args:
        tau: Share of time at which the image has converged to noise.
        factor: How many times more often earlier times are drawn.
    """

    tau: float = attrs.field(default=0.7, validator=[gt(0), lt(1)])
    factor: float = attrs.field(default=5.0, validator=gt(0))

    def _all(self) -> float:
        return self.factor * self.tau + 1 - self.tau

    def below(self, x: float) -> float:
        return (self.factor * min(x, self.tau) + max(x - self.tau, 0.0)) / self._all()

    def share(self, u: "Tensor") -> "Tensor":
        import torch

        mass = u * self._all()
        first = self.factor * self.tau
        return torch.where(mass <= first, mass / self.factor, self.tau + (mass - first))
