"""The processes that torchrun starts: which of them this one is, and how they put their work together."""

import contextlib
import datetime
import os
from collections.abc import Generator
from typing import TYPE_CHECKING

import attrs

from msdk.errors import RunError

if TYPE_CHECKING:
    from torch import Tensor


@attrs.frozen
class Rank:
    """A process among its likes.

    Attributes:
        index: 0 for the one that speaks and puts results together.
        count: Processes in all.
        local: Which of the processes on this machine, and so which of its GPUs.
    """

    index: int = 0
    count: int = 1
    local: int = 0

    @property
    def first(self) -> bool:
        return self.index == 0

    def device(self, picked: str) -> str:
        """The device of this process: where several were to have "cuda", each has the GPU of its own number."""
        return f"cuda:{self.local}" if picked == "cuda" and self.count > 1 else picked


def this_rank() -> Rank:
    """What torchrun says in the environment; one process alone elsewhere. Imports no torch."""
    return Rank(*(int(os.environ.get(name, default)) for name, default in VARIABLES))


def refuse_company(verb: str) -> None:
    """Raises `RunError` where torchrun started more than one process for something that one does alone."""
    count = this_rank().count
    if count > 1:
        raise RunError(
            f"{verb} runs on one process so far, but WORLD_SIZE says that there are {count}: start it without "
            "torchrun, or with --nproc-per-node=1; clustering and sampling share their work over processes"
        )


VARIABLES = (("RANK", "0"), ("WORLD_SIZE", "1"), ("LOCAL_RANK", "0"))


class Group:
    """Processes that work on one thing: they wait for each other and add up what each has. A single one needs no torch.

    Args:
        rank: Which of them this one is.
    """

    def __init__(self, rank: Rank | None = None) -> None:
        self.rank = rank or Rank()

    def wait(self) -> None:
        """Returns once all processes have called it."""
        if self.rank.count > 1:
            import torch.distributed as dist

            dist.barrier()

    def total(self, values: "Tensor") -> "Tensor":
        """The sum over processes, which all of them get; each gives values of the same shape."""
        return self._reduced(values, "SUM")

    def highest(self, values: "Tensor") -> "Tensor":
        """The largest over processes, number by number."""
        return self._reduced(values, "MAX")

    def _reduced(self, values: "Tensor", operation: str) -> "Tensor":
        if self.rank.count == 1:
            return values
        import torch.distributed as dist

        shared = values.cpu().contiguous()  # gloo works on the CPU
        dist.all_reduce(shared, getattr(dist.ReduceOp, operation))
        return shared.to(values.device)


@contextlib.contextmanager
def together(rank: Rank) -> Generator[Group]:
    """The group of all processes of torchrun. They wait for each other for a day, since shares of work differ."""
    if rank.count == 1:
        yield Group()
        return
    import torch.distributed as dist

    began = not dist.is_initialized()
    if began:
        dist.init_process_group("gloo", timeout=datetime.timedelta(days=1))
    try:
        yield Group(rank)
    finally:
        if began:
            dist.destroy_process_group()
