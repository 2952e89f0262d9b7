"""Distances to neighbours, block by block: any number of images needs the memory of a few blocks. In float64."""

from collections.abc import Iterator

import torch
from torch import Tensor

BLOCK = 2048
"""Images on either side of a block of distances."""

ROUNDING = 1e-13
"""What a squared distance may be off by, of the squared lengths in it: a ball of no width holds its centre."""


def precision_recall(generated: Tensor, reference: Tensor, k: int) -> tuple[float, float]:
    """The share of generated images that lie in the ball of a real one, and that of real ones in a generated one's.

    Args:
        generated: Features, [images, features].
        reference: Likewise.
        k: A ball reaches to the k-th neighbour of its centre in its own set, which is in it.
    """
    centre = _mean(reference)  # the nearer to 0, the less a distance is rounded
    ours, theirs = (_reach(each, k, centre) for each in (generated, reference))
    precise = torch.zeros(len(generated), dtype=torch.bool)
    recalled = torch.zeros(len(reference), dtype=torch.bool)
    for rows, x in _blocks(generated, centre):
        for columns, y in _blocks(reference, centre):
            found = _squared(x, y)
            precise[rows] |= (found <= theirs[columns][None]).any(1)
            recalled[columns] |= (found <= ours[rows][:, None]).any(0)
    return float(precise.double().mean()), float(recalled.double().mean())


def _reach(features: Tensor, k: int, centre: Tensor) -> Tensor:
    """The squared distance within which an image lies in the ball of each, [images], rounding allowed for."""
    lengths = torch.cat([x.square().sum(1) for _, x in _blocks(features, centre)])
    widths = nearest(features, k, centre)[:, -1]
    return widths + ROUNDING * (lengths + widths)


def nearest(features: Tensor, k: int, centre: Tensor | None = None) -> Tensor:
    """Squared distances of each image to its k nearest neighbours among the others, ascending; [images, k]."""
    at = _mean(features) if centre is None else centre
    best = torch.full((len(features), k), torch.inf, dtype=torch.float64)
    for rows, x in _blocks(features, at):
        for columns, y in _blocks(features, at, rows.start):
            found = _squared(x, y)
            if columns.start == rows.start:
                found.fill_diagonal_(torch.inf)  # itself is no neighbour
            else:  # distances are the same both ways
                best[columns] = _least(best[columns], found.T, k)
            best[rows] = _least(best[rows], found, k)
    return best.clamp(min=0)


def nearest_among(features: Tensor, others: Tensor) -> Tensor:
    """The squared distance of each image to the nearest of others, [images]."""
    centre = _mean(others)
    best = torch.full((len(features),), torch.inf, dtype=torch.float64)
    for rows, x in _blocks(features, centre):
        for _, y in _blocks(others, centre):
            best[rows] = torch.minimum(best[rows], _squared(x, y).amin(1))
    return best.clamp(min=0)


def _blocks(features: Tensor, centre: Tensor, first: int = 0) -> Iterator[tuple[slice, Tensor]]:
    for start in range(first, len(features), BLOCK):
        rows = slice(start, min(start + BLOCK, len(features)))
        yield rows, features[rows].double() - centre


def _mean(features: Tensor) -> Tensor:
    """In float64, without all of the features in it."""
    total = torch.stack([part.double().sum(0) for part in features.split(BLOCK)]).sum(0)
    return total / len(features)


def _squared(x: Tensor, y: Tensor) -> Tensor:
    """|x - y|^2 of all pairs, off by rounding, also below 0."""
    return torch.addmm(y.square().sum(1), x, y.T, alpha=-2.0).add_(x.square().sum(1)[:, None])


def _least(best: Tensor, found: Tensor, k: int) -> Tensor:
    few = found.topk(min(k, found.shape[1]), dim=1, largest=False).values
    return torch.cat([best, few], 1).topk(k, dim=1, largest=False, sorted=True).values
