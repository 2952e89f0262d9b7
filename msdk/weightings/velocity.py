"""The loss of flow matching."""

import math
from typing import Any, Literal

import attrs

from msdk.schedules.base import Schedule, Time
from msdk.weightings.base import Weighting


@attrs.frozen(kw_only=True)
class Velocity(Weighting):
    """Weight 1, or one of SD3's, on the error of the velocity dx_t / dt, whatever the network predicts.

    On the error of the clean image that is (d / sigma)^2 with d = alpha sigma' - sigma alpha', on straight paths
    1 / t^2.
    Source: Lipman et al. 2023, arXiv 2210.02747, Eq. 9; Ma et al. 2024, arXiv 2401.08740 (SiT); the schemes: Esser et
    al. 2024, arXiv 2403.03206 (SD3), section 3.1, as diffusers writes them.

    Args:
        scheme: "flat" is 1, "cosmap" 2 / (pi (alpha^2 + sigma^2)), "sigma-sqrt" 1 / sigma^2.
    """

    scheme: Literal["flat", "cosmap", "sigma-sqrt"] = "flat"

    def weight(self, schedule: Schedule, t: Time) -> Time:
        alpha, sigma = schedule.alpha(t), schedule.sigma(t)
        d_alpha, d_sigma = schedule.slopes(t)
        pace = (alpha * d_sigma - sigma * d_alpha) / sigma
        weight: Any = pace * pace
        if self.scheme == "cosmap":
            return weight * 2 / (math.pi * (alpha * alpha + sigma * sigma))
        return weight / (sigma * sigma) if self.scheme == "sigma-sqrt" else weight
