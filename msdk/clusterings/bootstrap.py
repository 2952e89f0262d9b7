"""How far edges move if what they were found from is drawn again: the bootstrap, by percentiles.

Source: Efron 1979, "Bootstrap methods: another look at the jackknife".
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from msdk.clusterings.base import Interval

if TYPE_CHECKING:
    from torch import Tensor

AT_A_TIME = 100


def resampled(count: int, samples: int, seed: int) -> "Iterator[Tensor]":
    """How often each of `count` draws is in each sample of as many, float64 [100, count] until all samples are made."""
    import torch

    generator = torch.Generator().manual_seed(seed % 2**63)
    for _ in range(0, samples, AT_A_TIME):
        picks = torch.randint(count, (AT_A_TIME, count), generator=generator)
        yield torch.zeros(AT_A_TIME, count, dtype=torch.float64).scatter_add_(
            1, picks, torch.ones(AT_A_TIME, count, dtype=torch.float64)
        )


def intervals(edges: "Tensor") -> tuple[Interval, ...]:
    """The ends between which 95 % of the samples lie, for edges [samples, edges]; NaN is no edge."""
    import torch

    ends = edges.nanquantile(torch.tensor([0.025, 0.975], dtype=torch.float64), dim=0)
    return tuple((float(low), float(high)) for low, high in ends.T)
