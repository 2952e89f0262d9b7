"""The processes that torchrun starts: which of them this one is, and how they put their work together."""

import contextlib
import datetime
import hashlib
import os
from collections.abc import Callable, Generator, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import attrs

from msdk.errors import ElsewhereError, GoneError, MsdkError, RunError, cut, printable

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


def restarted() -> int:
    """How often torchrun has started the processes of this job anew, since one of them had died."""
    return int(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0"))


def told_elsewhere(error: BaseException) -> bool:
    """Whether another process of torchrun tells the same: of those that ask, the first one is to tell it.

    It asks the store of torchrun's agent, which is there before a group is and after it has fallen apart. Where that
    cannot be reached, all tell.
    """
    if this_rank().count == 1 or os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True":
        return False
    what = "gone" if isinstance(error, GoneError) else str(error)
    name = f"msdk/{restarted()}/{hashlib.sha256(what.encode()).hexdigest()}"
    try:
        import torch.distributed as dist

        place, patience = (os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])), datetime.timedelta(seconds=5)
        store = dist.TCPStore(*place, is_master=False, timeout=patience, wait_for_workers=False)  # pyright: ignore[reportPrivateImportUsage]
        return store.add(name, 1) > 1
    except (RuntimeError, KeyError, ValueError):
        return False


T = TypeVar("T")


VARIABLES = (("RANK", "0"), ("WORLD_SIZE", "1"), ("LOCAL_RANK", "0"))


@contextlib.contextmanager
def alive(*, alone: bool = True) -> Generator[None]:
    """Turns what torch raises where another process is gone into words.

    Args:
        alone: Whether nothing but talk with other processes can fail here.
    """
    try:
        yield
    except RuntimeError as error:
        if not alone and not _of_talk(error):
            raise
        reason = printable(cut(str(error).splitlines()[0], 200))
        raise GoneError(
            f"another process of this run ended, or cannot be reached ({reason}): look at what it said. What was saved "
            "is whole; start all processes again with --resume"
        ) from error


def _of_talk(error: RuntimeError) -> bool:
    import torch.distributed as dist

    return isinstance(error, dist.DistError) or "gloo" in str(error)  # gloo's own are plain RuntimeErrors


class Group:
    """Processes that work on one thing: they wait for each other and add up what each has. A single one needs no torch.

    Args:
        rank: Which of them this one is.
        handle: torch's group of these processes; that of all when not given.
    """

    def __init__(self, rank: Rank | None = None, handle: Any = None) -> None:
        self.rank, self.handle = rank or Rank(), handle

    def patient(self, minutes: float) -> "Group":
        """The same processes, which wait for each other for so long; all of them call it.

        gloo notices a process that has ended at once, and one that hangs after that time; NCCL both after that time.
        """
        if self.rank.count == 1:
            return self
        import torch.distributed as dist

        with alive():
            return Group(self.rank, dist.new_group(timeout=datetime.timedelta(minutes=minutes)))

    def wait(self) -> None:
        """Returns once all processes have called it."""
        if self.rank.count > 1:
            import torch.distributed as dist

            with alive():
                dist.barrier(self.handle)

    def agreed(self, work: Callable[[], T]) -> T:
        """Does something in each process, and ends it in all of them where it goes wrong in one.

        Raises:
            MsdkError: This process's own, where it is the first that has one.
            ElsewhereError: It went wrong in another process, which tells what.
        """
        if self.rank.count == 1:
            return work()
        import torch.distributed as dist

        done: list[T] = []
        own: MsdkError | None = None
        try:
            done.append(work())
        except MsdkError as error:
            own = error
        failed: list[bool] = [False] * self.rank.count
        with alive():
            dist.all_gather_object(failed, own is not None, group=self.handle)
        if True in failed:
            if own is not None and failed.index(True) == self.rank.index:
                raise own
            raise ElsewhereError(f"process {failed.index(True)} could not go on")
        return done[0]

    def any(self, own: bool) -> bool:
        """Whether something is so in any process."""
        return bool(self.vote(lambda: int(own))())

    def same(self, what: str, value: str) -> None:
        """Raises `RunError` where a value differs between processes."""
        if self.rank.count == 1:
            return
        import torch.distributed as dist

        found = [""] * self.rank.count
        with alive():
            dist.all_gather_object(found, value, group=self.handle)
        others = [index for index, other in enumerate(found) if other != found[0]]
        if others:
            raise RunError(
                f"{what} of process {others[0]} is {found[others[0]] or 'none'}, but that of process 0 is "
                f"{found[0] or 'none'}: all processes train one run, in one folder, from the same data with the same "
                "versions"
            )

    def vote(self, own: Callable[[], int]) -> Callable[[], int]:
        """Asks for the largest of all processes' own numbers, without waiting; what is returned waits for the answer.

        It goes by the CPU, so that no device is waited for. One alone has nobody to agree with: its answer is its own
        number at any time.
        """
        if self.rank.count == 1:
            return own
        import torch
        import torch.distributed as dist

        asked = torch.tensor(own())
        with alive():
            work: Any = dist.all_reduce(asked, dist.ReduceOp.MAX, self.handle, async_op=True)

        def answer() -> int:
            with alive():
                work.wait()
            return int(asked)

        return answer

    def union(self, names: Sequence[str]) -> list[str]:
        """The names that any process gives, each once."""
        found: list[Sequence[str]] = [names] * self.rank.count
        if self.rank.count > 1:
            import torch.distributed as dist

            with alive():
                dist.all_gather_object(found, list(names), group=self.handle)
        return list(dict.fromkeys(name for each in found for name in each))

    def total(self, values: "Tensor") -> "Tensor":
        """The sum over processes, which all of them get; each gives values of the same shape."""
        return self._reduced(values, "SUM")

    def highest(self, values: "Tensor") -> "Tensor":
        """The largest over processes, number by number."""
        return self._reduced(values, "MAX")

    def add_up(self, tensors: "Sequence[Tensor]") -> Callable[[], None]:
        """Sends tensors on their device, of one dtype, so that they are summed over processes; does not wait for that.

        All processes send as many, of the same shapes, in one order.

        Returns:
            Puts the sums into the tensors.
        """
        if self.rank.count == 1 or not tensors:
            return lambda: None
        import torch
        import torch.distributed as dist

        flat = torch.cat([tensor.reshape(-1) for tensor in tensors])
        with alive():
            work: Any = dist.all_reduce(flat, group=self.handle, async_op=True)

        def put() -> None:
            with alive():
                work.wait()
            for tensor, piece in zip(tensors, flat.split([tensor.numel() for tensor in tensors]), strict=True):
                tensor.copy_(piece.view_as(tensor))

        return put

    def _reduced(self, values: "Tensor", operation: str) -> "Tensor":
        if self.rank.count == 1:
            return values
        import torch.distributed as dist

        shared = values.to("cpu", copy=True).contiguous()  # gloo works on the CPU, and in place
        with alive():
            dist.all_reduce(shared, getattr(dist.ReduceOp, operation), self.handle)
        return shared.to(values.device)


@contextlib.contextmanager
def together(rank: Rank) -> Generator[Group]:
    """The group of all processes of torchrun. They wait for each other for a day, since shares of work differ."""
    if rank.count == 1:
        yield Group()
        return
    import torch
    import torch.distributed as dist

    began = not dist.is_initialized()
    if began:
        backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() and dist.is_nccl_available() else "gloo"
        if torch.cuda.is_available():
            torch.cuda.set_device(rank.local)
        from torch.distributed.rendezvous import rendezvous

        patience = datetime.timedelta(days=1)
        with alive():
            # What processes that were started anew say of themselves stands apart: torch leaves what the dead ones
            # said in the store of torchrun's agent, and who reads that waits for them.
            store, index, count = next(iter(rendezvous("env://", timeout=patience)))
            attempt = restarted() if os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True" else 0
            store = dist.PrefixStore(f"msdk/{attempt}", store)  # pyright: ignore[reportPrivateImportUsage]
            dist.init_process_group(backend, store=store, rank=index, world_size=count, timeout=patience)
    try:
        yield Group(rank)
    except GoneError:
        began = False  # to leave the group in order, NCCL may wait for the one that is gone
        raise
    finally:
        if began:
            dist.destroy_process_group()
