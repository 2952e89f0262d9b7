"""Integrals of polynomials through earlier predictions, which exponential integrators weigh them by."""

import functools
import math
from collections.abc import Iterable


@functools.cache
def gauss(points: int = 64) -> tuple[tuple[float, float], ...]:
    """Places in [-1, 1] and weights of Gauss's rule."""
    import numpy as np

    places, weights = np.polynomial.legendre.leggauss(points)
    return tuple(zip(places.tolist(), weights.tolist(), strict=True))


def gauss_between(first: float, last: float, points: int = 64) -> list[tuple[float, float]]:
    """Places and weights of Gauss's rule for the integral from one number to another."""
    middle, half = (first + last) / 2, (last - first) / 2
    return [(middle + half * place, half * share) for place, share in gauss(points)]


def polynomial_weights(nodes: tuple[float, ...], rule: Iterable[tuple[float, float]]) -> tuple[float, ...]:
    """For each node, the sum over a rule of the polynomial that is 1 there and 0 at the other nodes.

    Args:
        nodes: Where values are known.
        rule: Places and weights; a kernel of the integral is a factor of the weights.
    """
    weights = [0.0] * len(nodes)
    for place, share in rule:
        for j, node in enumerate(nodes):
            others = [other for k, other in enumerate(nodes) if k != j]
            weights[j] += share * math.prod((place - other) / (node - other) for other in others)
    return tuple(weights)
