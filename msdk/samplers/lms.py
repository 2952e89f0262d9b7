"""Linear multistep: Adams-Bashforth in r with exact weights."""

import functools
from typing import TYPE_CHECKING

import attrs
from attrs.validators import ge, le

from msdk.samplers.multistep import History, Multistep
from msdk.samplers.ratio_space import Draw, Estimate, RatioSampler

if TYPE_CHECKING:
    from torch import Tensor


@functools.lru_cache(maxsize=4096)  # every batch of a sampling has the same
def adams_weights(nodes: tuple[float, ...], first: float, last: float) -> tuple[float, ...]:
    """Integrals from `first` to `last` of the polynomials that are 1 at one node and 0 at the others."""
    import numpy as np

    weights: list[float] = []
    for j, node in enumerate(nodes):
        others = [other for k, other in enumerate(nodes) if k != j]
        # In units of the interval, so that powers of small numbers do not cancel.
        roots = [(other - first) / (last - first) for other in others]
        basis = np.polynomial.Polynomial.fromroots(roots) if roots else np.polynomial.Polynomial([1.0])
        scale = np.prod([(node - other) / (last - first) for other in others])
        integral = basis.integ()
        weights.append(float((integral(1.0) - integral(0.0)) / scale * (last - first)))
    return tuple(weights)


@attrs.frozen(kw_only=True)
class LMS(Multistep, RatioSampler):
    """y_b = y_a + sum_j w_j d_j over the slopes d = (y - x_0) / r of the last nodes; w_j integrates their polynomial.

    Source: Katherine Crowson's k-diffusion; DEIS (Zhang and Chen 2023, arXiv 2204.13902) derives the same as rho-AB.

    Args:
        order: Slopes that are used, once there are as many.
    """

    order: int = attrs.field(default=4, validator=[ge(1), le(6)])  # pyright: ignore[reportIncompatibleMethodOverride]

    def move(
        self, estimate: Estimate, y: "Tensor", a: float, b: float, memory: History, draw: Draw
    ) -> "tuple[Tensor, History]":
        past = memory.after(a, (y - estimate(y, a)) / a, self.order)
        for weight, (_, slope) in zip(adams_weights(tuple(r for r, _ in past.nodes), a, b), past.nodes, strict=True):
            y = y + weight * slope
        return y, past
