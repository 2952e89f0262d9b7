"""Times of a Beta law."""

import functools
import math
from typing import TYPE_CHECKING, Any

import attrs
from attrs.validators import ge

from msdk.noise_levels.base import ShareOfTime

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

PANEL = 0.25
"""Length of the panels on which the law is integrated over the logit of x, exactly with ten places of Gauss's rule."""


@attrs.frozen(kw_only=True)
class Beta(ShareOfTime):
    """x ~ Beta(alpha, beta) of the share x of time: the density is x^(alpha - 1) (1 - x)^(beta - 1) / B(alpha, beta).

    Source: Zheng et al. 2024, B-TTDM ("Beta-Tuned Timestep Diffusion Model", ECCV 2024), which has beta = 1 and alpha
    below 1: more draws near the data, where the law of x_t changes most.

    Args:
        alpha: Below 1 for more draws near the data.
        beta: Below 1 for more draws near the noise.
    """

    alpha: float = attrs.field(default=0.8, validator=ge(0.05))
    beta: float = attrs.field(default=1.0, validator=ge(0.05))

    def below(self, x: float) -> float:
        if self.beta == 1:
            return x**self.alpha
        if self.alpha == 1:
            return -math.expm1(self.beta * math.log1p(-x))
        return float(_mass(self.alpha, self.beta, math.log(x) - math.log1p(-x)))

    def share(self, u: "Tensor") -> "Tensor":
        if self.beta == 1:
            return u ** (1 / self.alpha)
        if self.alpha == 1:
            return -((-u).log1p() / self.beta).expm1()
        import torch

        return torch.from_numpy(_share(self.alpha, self.beta, u.numpy()))


def _density(alpha: float, beta: float, y: Any) -> Any:
    """Of the logit y of x: x^alpha (1 - x)^beta / B."""
    import numpy as np

    constant = math.lgamma(alpha + beta) - math.lgamma(alpha) - math.lgamma(beta)
    return np.exp(constant - alpha * np.logaddexp(0, -y) - beta * np.logaddexp(0, y))


def _integral(alpha: float, beta: float, low: Any, high: Any) -> Any:
    """Of the density between two logits at most a panel apart."""
    import numpy as np

    places, shares = np.polynomial.legendre.leggauss(10)
    middle, half = (low + high) / 2, (high - low) / 2
    return half * (_density(alpha, beta, np.asarray(middle)[..., None] + np.asarray(half)[..., None] * places) @ shares)


@functools.lru_cache(maxsize=16)
def _panels(alpha: float, beta: float) -> "tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]":
    """Logits between which all but 1e-17 of the mass lies, and the mass below each."""
    import numpy as np

    edges = np.arange(-40 / min(alpha, 1.0), 40 / min(beta, 1.0) + PANEL, PANEL)
    below = np.concatenate([[0.0], np.cumsum(_integral(alpha, beta, edges[:-1], edges[1:]))])
    return edges, below / below[-1]


def _mass(alpha: float, beta: float, y: Any) -> Any:
    """The mass below logits."""
    import numpy as np

    edges, below = _panels(alpha, beta)
    y = np.clip(y, edges[0], edges[-1])
    panel = np.clip(np.searchsorted(edges, y, side="right") - 1, 0, len(edges) - 2)
    return below[panel] + _integral(alpha, beta, edges[panel], y)


def _share(alpha: float, beta: float, u: "np.ndarray[Any, Any]") -> "np.ndarray[Any, Any]":
    """The x below which the mass is u: by Newton's method inside the panel, where a half of it holds each step."""
    import numpy as np

    edges, below = _panels(alpha, beta)
    panel = np.clip(np.searchsorted(below, u, side="right") - 1, 0, len(edges) - 2)
    low, high = edges[panel], edges[panel + 1]
    y = (low + high) / 2
    for _ in range(30):
        off = below[panel] + _integral(alpha, beta, edges[panel], y) - u
        low, high = np.where(off < 0, y, low), np.where(off < 0, high, y)
        ahead = y - off / _density(alpha, beta, y)
        step = np.where((ahead >= low) & (ahead <= high), ahead, (low + high) / 2)
        if np.all(np.abs(step - y) < 1e-14 * (1 + np.abs(y))):
            break
        y = step
    return 1 / (1 + np.exp(-y))
