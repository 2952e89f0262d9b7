"""The processes that torchrun starts: which of them this one is, and waiting for the others."""

import contextlib
import datetime
import os
from collections.abc import Callable, Generator

import attrs


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


def this_rank() -> Rank:
    """What torchrun says in the environment; one process alone elsewhere. Imports no torch."""
    return Rank(*(int(os.environ.get(name, default)) for name, default in VARIABLES))


VARIABLES = (("RANK", "0"), ("WORLD_SIZE", "1"), ("LOCAL_RANK", "0"))


@contextlib.contextmanager
def together(rank: Rank) -> Generator[Callable[[], None]]:
    """A function that waits until all processes have called it; it waits for a day, since shares of work differ."""
    if rank.count == 1:
        yield lambda: None
        return
    import torch.distributed as dist

    began = not dist.is_initialized()
    if began:
        dist.init_process_group("gloo", timeout=datetime.timedelta(days=1))
    try:

        def wait() -> None:
            dist.barrier()

        yield wait
    finally:
        if began:
            dist.destroy_process_group()
