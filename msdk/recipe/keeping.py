"""Which checkpoints of a run are kept. Imports no torch."""

from collections.abc import Sequence
from typing import Literal

import attrs
from attrs.validators import ge


@attrs.frozen(kw_only=True)
class Keep:
    """The newest checkpoints, and those of every so many steps.

    Args:
        every: Steps between checkpoints that are kept for good; one is only there where `checkpoint_every` makes it.
        newest: Number of newest checkpoints that are kept beside them.
    """

    every: int = attrs.field(validator=ge(1))
    newest: int = attrs.field(default=2, validator=ge(1))


Kept = int | Literal["all"] | Keep
"""How many of the newest, all of them, or some for good."""


def spare(iterations: Sequence[int], keep: Kept) -> list[int]:
    """Which checkpoints go, of those that there are, oldest first."""
    if keep == "all":
        return []
    newest, every = (keep.newest, keep.every) if isinstance(keep, Keep) else (int(keep), 0)
    return [each for each in iterations[:-newest] if not every or each % every]


def at_least_one(_: object, field: object, value: Kept) -> None:
    """Validator of `training.keep`."""
    if isinstance(value, int) and value < 1:
        raise ValueError(f"'keep' must be >= 1: {value}")
