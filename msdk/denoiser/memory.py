"""How much memory is free; and where it does not suffice, that is told in words, whichever library asked for it."""

import contextlib
from collections.abc import Generator
from pathlib import Path

import torch

from msdk.errors import PartError

SIGNS = ("can't allocate memory", "Storage size calculation overflowed", "out of memory")
"""In the messages of torch that are of no type of their own."""


@contextlib.contextmanager
def enough_memory(what: str, fix: str) -> Generator[None]:
    """Raises `PartError` where the memory of the device does not suffice for what is done inside.

    Args:
        what: "the networks do", of the message.
        fix: What needs less.
    """
    try:
        yield
    except (MemoryError, torch.OutOfMemoryError) as error:
        raise PartError(f"{what} not fit into memory: {fix}") from error
    except RuntimeError as error:
        if not any(sign in str(error) for sign in SIGNS):
            raise
        raise PartError(f"{what} not fit into memory: {fix}") from error


def free_memory(device: torch.device | None = None) -> float:
    """Bytes that a process may still take on a device, the host's when not given; infinite where nobody says."""
    if device is not None and device.type == "cuda":
        kept = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return float(torch.cuda.mem_get_info(device)[0] + kept)
    free = float("inf")
    if device is None or device.type == "cpu":
        with contextlib.suppress(OSError):
            for line in Path("/proc/meminfo").read_text(encoding="utf-8").splitlines():
                if line.startswith("MemAvailable"):
                    free = int(line.split()[1]) * 1024.0
        free = min(free, _free_in_container())
    return free


CGROUP = Path("/sys/fs/cgroup")


def _free_in_container() -> float:
    """What a container may still take, in which pages of files that can go are free; infinite where it may take all."""
    with contextlib.suppress(OSError, ValueError, KeyError):  # there "max" is no number
        most, used = (int((CGROUP / f"memory.{name}").read_text(encoding="utf-8")) for name in ("max", "current"))
        lines = (CGROUP / "memory.stat").read_text(encoding="utf-8").splitlines()
        held = {name: int(value) for name, value in (line.split() for line in lines)}
        return max(float(most - used + held["active_file"] + held["inactive_file"]), 0.0)
    return float("inf")
