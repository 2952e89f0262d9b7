"""Linear CKA: how alike two sets of features of the same images are, whatever turns or scales them.

Source: Kornblith et al. 2019, arXiv 1905.00414, Eq. 1 to 3; with the unbiased estimate of HSIC of Song et al. 2012
(JMLR 13), Eq. 5, so that few images with many features do not look alike for that reason alone.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

BLOCK = 4096
"""Features at a time."""

FEWEST = 4
"""Images that the unbiased estimate needs."""


def gram(features: Tensor) -> Tensor:
    """The Gram matrix of features, centred so that the mean over pairs of images of products estimates HSIC.

    Args:
        features: [images, features], of any dtype and on any device; they are read a block of features at a time.

    Returns:
        float64 [images, images], on the CPU, with a diagonal of 0: rows and columns sum to 0.
    """
    count = len(features)
    whole = torch.zeros(count, count, dtype=torch.float64)
    for block in features.split(BLOCK, dim=1):
        centred = block.cpu().double()
        centred = centred - centred.mean(dim=0)
        whole += centred @ centred.T
    whole.fill_diagonal_(0)
    rows = whole.sum(dim=1, keepdim=True) / (count - 2)
    found = whole - rows - rows.T + whole.sum() / ((count - 1) * (count - 2))
    return found.fill_diagonal_(0)


def similarities(grams: Sequence[Tensor], others: Sequence[Tensor]) -> Tensor:
    """CKA between the features of each two Gram matrices, float64 [grams, others]: at most 1, and about 0 by chance."""
    one, other = (torch.stack([each.flatten() for each in some]) for some in (grams, others))
    one, other = (some / some.norm(dim=1, keepdim=True) for some in (one, other))
    return one @ other.T
