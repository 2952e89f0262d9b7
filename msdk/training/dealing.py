"""Which images of a step a process works on, so that any number of processes trains the same run.

A step is defined on its whole batch: its images and what is drawn for them follow from the seed and the step. All
processes know the stage of every image, so that they deal them out without talking: those of each stage in turn, by
which any two processes differ by at most one image per stage. A process that gets none of a stage runs that decoder
nevertheless, on one of its other images, which counts for nothing: all run the same modules in the same order, as
collectives need. A decoder that no image of the batch needs runs nowhere, so that its gradient stays None and the
optimiser leaves it alone, as on one process.
"""

from collections.abc import Collection, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from msdk.distributed import Rank
from msdk.errors import PartError


class Hand(NamedTuple):
    """What a process is dealt of a batch, micro-batch by micro-batch.

    Attributes:
        images: int64 [n], positions in the batch of the images that it reads; repeated ones end their micro-batch.
        draws: int64 [n], whose times and noise they get: their own, but for repeated ones.
        counted: bool [n], false for repeated images; None where there are none.
        sizes: Images of each micro-batch, repeated ones included.
        total: Images of the whole batch, over which the loss is a mean.
    """

    images: Tensor
    draws: Tensor
    counted: Tensor | None
    sizes: Sequence[int]
    total: int


def deal(stages: Tensor, rank: Rank, parts: int = 1, still: Collection[int] = ()) -> Hand:
    """Deals a batch out.

    Args:
        stages: int64 [batch], on the CPU: the stage of every image.
        rank: The process that asks.
        parts: Micro-batches, each of which is dealt for itself.
        still: Stages whose images nobody gets.
    """
    total = len(stages)
    size = total // parts
    if rank.count == 1 and not still:
        everything = torch.arange(total)
        return Hand(everything, everything, None, (size,) * parts, total)
    images: list[Tensor] = []
    draws: list[Tensor] = []
    counted: list[Tensor] = []
    for first in range(0, total, size):
        own = stages[first : first + size]
        order = own.argsort(stable=True)
        order = order[goes_on(own[order], still)]
        dealt = order[rank.index :: rank.count].sort().values
        had = set(own[dealt].tolist())
        missing = [own.tolist().index(stage) for stage in own[order].unique().tolist() if stage not in had]
        spare = dealt[:1] if len(dealt) else order[:1]  # where few are left, a process may have none of its own
        images.append(first + torch.cat([dealt, spare.expand(len(missing))]))
        draws.append(first + torch.cat([dealt, torch.tensor(missing, dtype=torch.int64)]))
        counted.append(torch.arange(len(dealt) + len(missing)) < len(dealt))
    flags = torch.cat(counted)
    sizes = tuple(len(part) for part in counted)
    return Hand(torch.cat(images), torch.cat(draws), None if flags.all() else flags, sizes, total)


def goes_on(stages: Tensor, still: Collection[int]) -> Tensor:
    """Which images are of none of these stages, bool [n]."""
    found = torch.ones(len(stages), dtype=torch.bool)
    for stage in still:
        found &= stages != stage
    return found


def refuse_uneven(batch: int, parts: int, rank: Rank) -> None:
    """Raises `PartError` where a batch does not go round."""
    if batch % (parts * rank.count):
        cut = f"{parts} micro-batches on {rank.count} processes" if parts > 1 else f"{rank.count} processes"
        raise PartError(
            f"training.batch_size is {batch}, which cannot be cut evenly into {cut}: set it to a multiple of "
            f"{parts * rank.count}, or start another number of processes"
        )
