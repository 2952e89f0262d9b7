"""Kernels of features, and what they say of two sets; in float64."""

from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor

if TYPE_CHECKING:
    from msdk.metrics.kid import KID

Array = np.ndarray[Any, np.dtype[np.float64]]


def discrepancies(generated: Tensor, reference: Tensor, spec: "KID") -> Array:
    """The unbiased estimate of the squared discrepancy of each subset, [subsets]."""
    chance = np.random.RandomState(spec.seed)  # the generator of torch-fidelity, whose subsets these are
    found = np.zeros(spec.subsets)
    for index in range(spec.subsets):
        x, y = (
            features[chance.choice(len(features), spec.subset_size, replace=False)].double().numpy()
            for features in (generated, reference)
        )
        found[index] = _unbiased(_kernel(x, x, spec), _kernel(x, y, spec), _kernel(y, y, spec))
    return found


def _unbiased(xx: Array, xy: Array, yy: Array) -> float:
    """Mean over pairs of different images within each set, less twice the mean over pairs between them."""
    n = len(xx)
    within = sum(float(each.sum() - np.trace(each)) for each in (xx, yy)) / (n * (n - 1))
    return within - 2 * float(xy.mean())


def _kernel(x: Array, y: Array, spec: "KID") -> Array:
    if spec.kernel == "rbf":
        squared = (x * x).sum(1)[:, None] + (y * y).sum(1)[None] - 2 * (x @ y.T)
        return np.exp(-squared / (2 * spec.sigma**2))
    gamma = 1 / x.shape[1] if spec.gamma is None else spec.gamma
    return (gamma * (x @ y.T) + spec.coef0) ** spec.degree
