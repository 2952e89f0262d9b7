"""Critically damped Langevin diffusion: the image and its velocity are noised together."""

from typing import TYPE_CHECKING, Any, ClassVar

import attrs
from attrs.validators import gt

from msdk.schedules.base import Schedule, Time, functions

if TYPE_CHECKING:
    import numpy as np

RATE = 4.0
"""beta, and with Gamma = 1 and M = 1/4 all other constants of the published process."""

DRIFT = ((0.0, 16.0), (-4.0, -16.0))
"""F of du = F u dt + G dw, u = (x, v)."""

DIFFUSION = 8.0
"""The only entry of G G^T, that of v."""


@attrs.frozen(kw_only=True)
class CLD(Schedule):
    """du = F u dt + G dw of u = (x, v), from (x_0, v_0 ~ N(0, velocity)); alpha and sigma are those of x.

    psi(t) = exp(-2 b) [[1 + 2 b, 4 b], [-b, 1 - 2 b]] with b = beta t, and Sigma_t = S + psi (Sigma_0 - S) psi^T with
    the stationary S = diag(1, 1/4). Only the sampler `gddim` runs it, on networks that are fed x and v as channels;
    msdk trains none yet.
    Source: Dockhorn et al. 2022, arXiv 2112.07068, with the constants of Zhang et al. 2023, arXiv 2206.05564.

    Args:
        velocity: Variance of v at t = 0.
        floor: Added to both variances at t = 0.
    """

    diffuses: ClassVar[bool] = False
    trainable: ClassVar[bool] = False
    velocity: float = attrs.field(default=0.01, validator=gt(0))
    floor: float = attrs.field(default=1e-6, validator=gt(0))

    @property
    def t_min(self) -> float:
        return 0.0

    @property
    def t_max(self) -> float:
        return 1.0

    @property
    def prior_std(self) -> float:
        return 1.0

    def alpha(self, t: Time) -> Time:
        b = t * RATE
        return functions(t).exp(-2 * b) * (1 + 2 * b)

    def sigma(self, t: Time) -> Time:
        b, maths = t * RATE, functions(t)
        decay = 2 * maths.log1p(2 * b) - 4 * b  # log alpha^2
        lost = self.floor * maths.exp(decay) - (0.25 - self.velocity - self.floor) * maths.exp(-4 * b) * (4 * b) ** 2
        return maths.sqrt(lost - maths.expm1(decay))  # so that nothing cancels near the data

    def t_of_ratio(self, ratio: Any) -> Any:
        """By halving: there is no closed form."""
        if not isinstance(ratio, (int, float)):
            import torch

            found = [self.t_of_ratio(float(each)) for each in ratio.flatten().tolist()]
            return torch.tensor(found, dtype=ratio.dtype, device=ratio.device).reshape(ratio.shape)
        low, high = 0.0, 4.0
        for _ in range(80):
            middle = (low + high) / 2
            low, high = (middle, high) if self.ratio(middle) < ratio else (low, middle)
        return (low + high) / 2

    # --- matrices, for `msdk.samplers.gddim` --------------------------------------------------------------------------

    @staticmethod
    def transition(span: Any) -> "np.ndarray[Any, Any]":
        """Psi over a span of time, [..., 2, 2]."""
        import numpy as np

        b = RATE * np.asarray(span)
        rows = np.stack([np.stack([1 + 2 * b, 4 * b], -1), np.stack([-b, 1 - 2 * b], -1)], -2)
        return np.exp(-2 * b)[..., None, None] * rows

    def covariance(self, t: Any) -> "np.ndarray[Any, Any]":
        """Sigma_t, [..., 2, 2]."""
        import numpy as np

        psi, end = self.transition(t), np.diag([1.0, 0.25])
        start = np.diag([self.floor, self.velocity + self.floor])
        return end + psi @ (start - end) @ np.swapaxes(psi, -1, -2)
