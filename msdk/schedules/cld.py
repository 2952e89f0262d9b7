"""Critically damped Langevin diffusion: the image and its velocity are noised together."""

import math
from typing import TYPE_CHECKING, Any, ClassVar

import attrs
from attrs.validators import gt

from msdk.schedules.base import Schedule, Time, functions, refuse_falling_beta

if TYPE_CHECKING:
    import numpy as np

DRIFT = ((0.0, 4.0), (-1.0, -4.0))
"""F of du = F u db + G dw, u = (x, v), with the Gamma = 1 and M = 1/4 of the published process; db = beta dt."""

DIFFUSION = 2.0
"""The only entry of G G^T, that of v."""


@attrs.frozen(kw_only=True)
class CLD(Schedule):
    """du = F u dt + G dw of u = (x, v), from (x_0, v_0 ~ N(0, velocity)); alpha and sigma are those of x.

    psi(t) = exp(-2 b) [[1 + 2 b, 4 b], [-b, 1 - 2 b]] with b the integral of beta, and Sigma_t = S + psi (Sigma_0 - S)
    psi^T with the stationary S = diag(1, 1/4). The objective `cld` trains on it and the sampler `gddim` runs it:
    networks are fed x and v as channels, one after the other.
    Source: Dockhorn et al. 2022, arXiv 2112.07068, with the constants of Zhang et al. 2023, arXiv 2206.05564.

    Args:
        velocity: Variance of v at t = 0.
        floor: Added to both variances at t = 0.
        mixed: Whether networks say what is left of the noise of v beside that of data at rest, v / Sigma_vv ("mixed
            score" of the published program).
        beta_min: beta at t = 0; of the published models 4, at all times.
        beta_max: beta at t = 1; it is linear between.
    """

    diffuses: ClassVar[bool] = False
    trainable: ClassVar[bool] = False
    objective: ClassVar[str] = "cld"
    feeds: ClassVar[int] = 2
    velocity: float = attrs.field(default=0.01, validator=gt(0))
    floor: float = attrs.field(default=1e-6, validator=gt(0))
    mixed: bool = False
    beta_min: float = attrs.field(default=4.0, validator=gt(0))
    beta_max: float = attrs.field(default=4.0, validator=gt(0))

    def __attrs_post_init__(self) -> None:
        refuse_falling_beta(self.beta_min, self.beta_max)

    @property
    def t_min(self) -> float:
        return 0.0

    @property
    def t_max(self) -> float:
        return 1.0

    @property
    def prior_std(self) -> float:
        return 1.0

    @property
    def seen(self) -> "Seen":
        return Seen(self)

    def beta(self, t: Any) -> Any:
        """How fast all happens."""
        return self.beta_min + t * (self.beta_max - self.beta_min)

    def elapsed(self, t: Any) -> Any:
        """b, the integral of beta."""
        return t * self.beta_min + t * t * ((self.beta_max - self.beta_min) / 2)

    def alpha(self, t: Time) -> Time:
        b: Any = self.elapsed(t)
        return functions(t).exp(-2 * b) * (1 + 2 * b)

    def sigma(self, t: Time) -> Time:
        b, maths = self.elapsed(t), functions(t)
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

    # --- of image and velocity together -------------------------------------------------------------------------------

    def means(self, t: Time) -> tuple[Time, Time]:
        """What is left of the image in x and in v: the first column of psi."""
        b, maths = self.elapsed(t), functions(t)
        return maths.exp(-2 * b) * (1 + 2 * b), -maths.exp(-2 * b) * b

    def carried(self, t: Time) -> tuple[Time, Time]:
        """What is left of the velocity at the start in x and in v: the second column of psi."""
        b, maths = self.elapsed(t), functions(t)
        return maths.exp(-2 * b) * 4 * b, maths.exp(-2 * b) * (1 - 2 * b)

    def variances(self, t: Time) -> tuple[Time, Time, Time]:
        """Sigma_t as xx, xv and vv; nothing cancels near the data."""
        b, maths = self.elapsed(t), functions(t)
        c, decay = 4 * b, maths.exp(-4 * b)
        first, second = self.floor, self.velocity + self.floor
        xx = decay * ((1 + 2 * b) ** 2 * first + c * c * second) + _third_remainder(c) * decay
        xv = decay * (4 * b * b - b * (1 + 2 * b) * first + c * (1 - 2 * b) * second)
        vv = decay * (b * b * first + (1 - 2 * b) ** 2 * second + (maths.expm1(c) + c - c * c / 2) / 4)
        return xx, xv, vv

    def factor(self, t: Time) -> tuple[Time, Time, Time]:
        """L of Sigma = L L^T as xx, vx and vv."""
        maths, (xx, xv, vv) = functions(t), self.variances(t)
        root = maths.sqrt(xx)
        return root, xv / root, maths.sqrt(vv - xv * xv / xx)

    def transition(self, t: Any, s: Any) -> "np.ndarray[Any, Any]":
        """Psi from times t to times s, [..., 2, 2]."""
        import numpy as np

        b = self.elapsed(np.asarray(s)) - self.elapsed(np.asarray(t))
        rows = np.stack([np.stack([1 + 2 * b, 4 * b], -1), np.stack([-b, 1 - 2 * b], -1)], -2)
        return np.exp(-2 * b)[..., None, None] * rows

    def covariance(self, t: Any) -> "np.ndarray[Any, Any]":
        """Sigma_t, [..., 2, 2]."""
        import numpy as np

        psi, end = self.transition(0.0, t), np.diag([1.0, 0.25])
        start = np.diag([self.floor, self.velocity + self.floor])
        return end + psi @ (start - end) @ np.swapaxes(psi, -1, -2)


def _third_remainder(c: Any) -> Any:
    """exp(c) - 1 - c - c^2 / 2, by its series where c is small."""
    series: Any = 0.0
    for k in range(18, 2, -1):
        series = series * c + 1 / math.factorial(k)
    series = series * c**3
    maths = functions(c)
    direct = maths.expm1(c) - c - c * c / 2
    if isinstance(c, (int, float)):
        return series if c < 1 else direct
    return maths.where(c < 1, series, direct)


@attrs.frozen
class Seen(Schedule):
    """What a network of CLD sees of the image: s = alpha x_0 + eps_v of each x and v, where eps_v is the noise.

    With u = psi x_0 + L eps, s is the second row of L^-1 u, and alpha that of L^-1 psi; a network that is mixed says
    eps_v less v / (Sigma_vv / L_vv), and s is less by it too.

    Args:
        cld: Whose.
    """

    cld: CLD

    @property
    def t_min(self) -> float:
        return self.cld.t_min

    @property
    def t_max(self) -> float:
        return self.cld.t_max

    @property
    def prior_std(self) -> float:
        return 1.0

    def alpha(self, t: Time) -> Time:
        of_x, of_v = self._row(t)
        in_x, in_v = self.cld.means(t)
        return of_x * in_x + of_v * in_v

    def sigma(self, t: Time) -> Time:
        return t * 0 + 1

    def t_of_ratio(self, ratio: Time) -> Time:
        raise NotImplementedError("ratios are those of the image, see CLD")

    def weights(self, t: Time) -> tuple[Any, ...]:
        of_x, of_v = self._row(t)
        return of_x, of_v - self.rest(t)

    def rest(self, t: Time) -> Any:
        """How much of v counts as noise beforehand, where the network is mixed."""
        return self.cld.factor(t)[2] / self.cld.variances(t)[2] if self.cld.mixed else t * 0

    def _row(self, t: Time) -> tuple[Any, Any]:
        """The second row of L^-1."""
        root, across, own = self.cld.factor(t)
        return -across / (root * own), 1 / own
