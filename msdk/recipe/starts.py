"""What the weights of a new run start from. Imports no torch."""

from pathlib import Path
from typing import Any, Literal

import attrs
from attrs.validators import deep_iterable, ge, optional


def _stage_numbers(init: object, field: Any, value: str | tuple[int, ...]) -> None:
    if not isinstance(value, str):
        deep_iterable(ge(-1))(init, field, value)


@attrs.frozen(kw_only=True)
class Init:
    """A trained run, whose weights are where the first step of this one begins.

    Parts that have the same weights are copied, decoders that are wider are widened where that changes no output, and
    others begin anew; `msdk train` says which, and lock.json keeps it.

    Args:
        run: A run folder; `msdk pretrained convert` makes one of a published checkpoint.
        stages: "copy" starts each stage from the stage of that run which has most of its time, so a run of one stage
            starts them all. Or the number of a stage of that run for each stage; -1 for a decoder that begins anew.
        checkpoint: The iteration; the newest checkpoint when not given.
        weights: "ema" for the averaged weights, "raw" for the last ones; averaged when not given, unless the
            optimiser's state is taken. Averages begin with those of the run.
        optimizer: Whether what the optimiser keeps of weights that are copied is taken, too.
    """

    run: Path
    stages: Literal["copy"] | tuple[int, ...] = attrs.field(default="copy", validator=_stage_numbers)
    checkpoint: int | None = attrs.field(default=None, validator=optional(ge(0)))
    weights: Literal["ema", "raw"] | None = None
    optimizer: bool = False

    @property
    def kind(self) -> Literal["ema", "raw"]:
        """Which weights are taken."""
        return self.weights or ("raw" if self.optimizer else "ema")
