"""How many threads the CPU computes with, and how they wait for each other.

torch runs one thread per core, and each spins while it waits for the others. Where another process takes one of the
cores, the spinning takes what is left of it, and small networks become 50 times slower. So waiting threads are to
sleep: `import msdk` says so in the environment, which OpenMP reads when torch is imported. And small work has one
thread (`threads_for`), since waking another takes longer than what it would do.
"""

import contextlib
import math
import os
import sys
from collections.abc import Generator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from msdk.errors import MsdkError

if TYPE_CHECKING:
    from torch import nn

VARIABLE = "MSDK_THREADS"
"""Environment variable that says how many threads; `--threads` sets it."""

WAITING = {"OMP_WAIT_POLICY": "passive", "KMP_BLOCKTIME": "0"}
"""What lets idle threads sleep: in every OpenMP, of which torch's wheels have GNU's, and in Intel's older ones."""

ENOUGH = 2e8
"""Multiply-accumulates of an operator from which more threads than one pay (benchmarks/bench_threads.py)."""

KERNELS = {"ONEDNN_PRIMITIVE_CACHE_CAPACITY": "16384"}
"""How many kernels oneDNN keeps; 1,024 unless told. Each size of batch needs its own, and decoders of mixed stages see
another size in almost every step: with three of them the cache would never hold what the next step needs, and making
kernels took 8 % of the digits' training (benchmarks/bench_training.py --only stages)."""

CGROUPS, OWN_CGROUP = Path("/sys/fs/cgroup"), Path("/proc/self/cgroup")
"""Where Linux says what quota of the cores this process has."""


def wait_asleep() -> None:
    """Makes OpenMP's idle threads sleep, unless the user has said how they wait, or torch has started them already."""
    if "torch" not in sys.modules and not {*WAITING, "GOMP_SPINCOUNT", "KMP_LIBRARY"} & os.environ.keys():
        os.environ.update(WAITING)


def keep_kernels() -> None:
    """Makes oneDNN keep the kernels it has made, unless the user has said how many; it asks at its first one."""
    if not {*KERNELS, "DNNL_PRIMITIVE_CACHE_CAPACITY"} & os.environ.keys():
        os.environ.update(KERNELS)


def asked() -> int | None:
    """The number of threads that `MSDK_THREADS` or `--threads` asks for.

    Raises:
        MsdkError: It is no whole number of at least 1.
    """
    text = os.environ.get(VARIABLE)
    if text is None:
        return None
    if not (text.isascii() and text.isdigit() and int(text)):
        raise MsdkError(
            f"{VARIABLE}, which --threads sets, is '{text}', but must be a whole number of at least 1. Leave it out, "
            "and msdk chooses by the cores and by the size of the work"
        )
    return int(text)


def cores() -> int:
    """Cores for this process: those it may run on, within its quota, divided among the processes of torchrun."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(int(min(allowed, _quota())) // int(os.environ.get("LOCAL_WORLD_SIZE", "1")), 1)


def count_for(macs: float) -> int | None:
    """How many threads work of this size gets; None leaves torch as it is, since the user has told OpenMP.

    The first of: `--threads`, `MSDK_THREADS`, `OMP_NUM_THREADS`, one thread for small work, all `cores()`. Where nobody
    sets OMP_NUM_THREADS, torchrun makes it 1, so beside other processes of torchrun a 1 is taken for not set.

    Args:
        macs: Multiply-accumulates of a typical operator of the work.
    """
    wanted = asked()
    if wanted is not None:
        return wanted
    alone, told = os.environ.get("LOCAL_WORLD_SIZE", "1") == "1", os.environ.get("OMP_NUM_THREADS")
    if told and (alone or told != "1"):
        return None
    return cores() if macs >= ENOUGH else 1


@contextlib.contextmanager
def threads_for(macs: float) -> Generator[None]:
    """Runs a block, or a function that this decorates, with as many threads as its work is worth; then as before.

    Sums on the CPU can depend on the number of threads in their last bits. It follows from the settings and the machine
    alone, never from how busy that is, so that training and resuming on one machine use the same number, and are equal
    bit for bit.

    Args:
        macs: Multiply-accumulates of a typical operator of the work; 0 for what computes next to nothing.
    """
    import torch

    count, before = count_for(macs), torch.get_num_threads()
    if count is None or count == before:
        yield
        return
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def network_macs(network: "nn.Module", shape: Sequence[int], images: int) -> float:
    """About the multiply-accumulates of one layer of a network: its mean weight, as if used at every pixel.

    Args:
        network: Any.
        shape: Channels, height and width of what it sees.
        images: Per call.
    """
    sizes = [parameter.numel() for parameter in network.parameters() if parameter.ndim > 1]
    return images * math.prod(shape[1:]) * sum(sizes) / max(len(sizes), 1)


def _quota() -> float:
    """Cores that the control groups of this process allow, those around its own included; infinite without a limit."""
    with contextlib.suppress(OSError):
        limits = [math.inf]
        for line in OWN_CGROUP.read_text(encoding="utf-8").splitlines():
            _, controllers, path = line.split(":", 2)
            if controllers == "" or "cpu" in controllers.split(","):
                mounted = CGROUPS / "cpu" if controllers else CGROUPS
                place = mounted / path.lstrip("/")
                # A container may see the host's path, of which nothing is mounted but the top.
                limits += [_limit(folder) for folder in (place, *place.parents) if folder.is_relative_to(mounted)]
        return min(limits)
    return math.inf


def _limit(folder: Path) -> float:
    """Cores that one control group allows, in version 2 or 1."""
    with contextlib.suppress(OSError):
        quota, period = (folder / "cpu.max").read_text(encoding="utf-8").split()
        return math.inf if quota == "max" else int(quota) / int(period)
    with contextlib.suppress(OSError):
        quota = (folder / "cpu.cfs_quota_us").read_text(encoding="utf-8")
        period = (folder / "cpu.cfs_period_us").read_text(encoding="utf-8")
        return math.inf if int(quota) < 0 else int(quota) / int(period)
    return math.inf
