"""Memory that does not suffice is told in words, whichever library asked for it."""

import contextlib
from collections.abc import Generator

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
