"""Means and covariances of features, and the Fréchet distance of the Gaussians that have them; in float64."""

from typing import Any

import attrs
import numpy as np
import torch
from torch import Tensor

Array = np.ndarray[Any, np.dtype[np.float64]]

BLOCK = 4096
"""Images whose features are in float64 at a time."""

FLAT = 8 * float(np.finfo(np.float64).eps)
"""An eigenvalue below so much of the largest is rounding."""


@attrs.frozen(eq=False)
class Moments:
    """Of features.

    Attributes:
        mean: [features].
        covariance: [features, features], divided by count - 1.
        count: Images.
    """

    mean: Array
    covariance: Array
    count: int


class Sums:
    """Moments of features that come block by block, which may be any number.

    Blocks are put together by the parallel rule of Chan et al. 1979, in which nothing cancels.
    """

    def __init__(self, width: int) -> None:
        self.mean, self.scatter, self.count = np.zeros(width), np.zeros((width, width)), 0

    def add(self, features: Tensor) -> None:
        """Takes the features of further images, [images, features], in."""
        for part in features.split(BLOCK):
            block = part.double().numpy()
            own = block.mean(axis=0)
            centred = block - own
            apart, count = own - self.mean, self.count + len(block)
            self.scatter += centred.T @ centred  # numpy knows that it is symmetric: half of the work
            self.scatter += np.outer(apart, apart) * (self.count * len(block) / count)
            self.mean += apart * (len(block) / count)
            self.count = count

    def moments(self) -> Moments:
        """Of all that came."""
        return Moments(self.mean, self.scatter / max(self.count - 1, 1), self.count)


def moments_of(features: Tensor) -> Moments:
    """Mean and unbiased covariance of features, [images, features]."""
    sums = Sums(features.shape[1])
    sums.add(features)
    return sums.moments()


def distance(a: Moments, b: Moments) -> float:
    """|m1 - m2|^2 + tr(S1 + S2 - 2 (S1 S2)^1/2), never below 0.

    The eigenvalues of S1 S2 are the squares of the singular values of L1^T L2 for any L with S = L L^T; taken like
    this, those that are 0 do not come out as the root of a rounding error.
    """
    apart = a.mean - b.mean
    product = torch.from_numpy(_factor(a).T @ _factor(b))
    root = float(torch.linalg.svdvals(product).sum())
    return max(float(apart @ apart + np.trace(a.covariance) + np.trace(b.covariance) - 2 * root), 0.0)


def _factor(moments: Moments) -> Array:
    """L of S = L L^T: by Cholesky, or of a singular S, which has a rank below the number of images, by eigenvectors."""
    covariance = moments.covariance
    width = len(covariance)
    if moments.count > width:
        lower, failed = torch.linalg.cholesky_ex(torch.from_numpy(covariance))
        diagonal = lower.diagonal()
        if not int(failed) and float(diagonal.min()) ** 2 > width * FLAT * float(diagonal.max()) ** 2:
            return lower.numpy()
    found, vectors = torch.linalg.eigh(torch.from_numpy(covariance))
    values = found.numpy().copy()
    values[: max(width - moments.count + 1, 0)] = 0.0  # ascending: those that must be 0
    values[values < FLAT * max(float(values[-1]), 0.0)] = 0.0
    return vectors.numpy() * np.sqrt(values)
