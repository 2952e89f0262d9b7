"""The logit-normal times of Stable Diffusion 3."""

import math
from typing import TYPE_CHECKING

import attrs
from attrs.validators import gt

from msdk.noise_levels.base import ShareOfTime

if TYPE_CHECKING:
    from torch import Tensor


@attrs.frozen(kw_only=True)
class LogitNormal(ShareOfTime):
    """log(x / (1 - x)) ~ N(mean, std^2) of the share x of time: most draws lie in the middle.

    Source: Esser et al. 2024, arXiv 2403.03206, Eq. 19.

    Args:
        mean: Of the logit; above 0 for more noise.
        std: Its standard deviation.
    """

    mean: float = 0.0
    std: float = attrs.field(default=1.0, validator=gt(0))

    def below(self, x: float) -> float:
        z = (math.log(x) - math.log1p(-x) - self.mean) / self.std
        return math.erfc(-z / math.sqrt(2)) / 2

    def share(self, u: "Tensor") -> "Tensor":
        import torch

        # At 0 and 1 the logit is infinite; 1e-12 is 7 standard deviations away from the mean.
        return torch.sigmoid(self.mean + self.std * torch.special.ndtri(u.clamp(1e-12, 1 - 1e-12)))
