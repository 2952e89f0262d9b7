"""A trained run that guides the sampling of another. Imports no torch."""

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import attrs
from attrs.validators import ge, optional

from msdk.errors import Problem
from msdk.recipe.salvaging import stated

if TYPE_CHECKING:
    from msdk.recipe.fields import Recipe


@attrs.frozen(kw_only=True)
class Guide:
    """A run that is worse than this one in the same way: smaller, trained less, or both.

    It is of the same data, schedule and classes; stages and networks may be others. What it says is taken away, as
    `guidance` tells: images are where the better run differs from it.
    Source: Karras et al. 2024, arXiv 2406.02507 (autoguidance).

    Args:
        run: Its folder.
        checkpoint: The iteration; the newest checkpoint when not given.
        weights: "ema" for the averaged weights, "raw" for the last ones.
    """

    run: Path
    checkpoint: int | None = attrs.field(default=None, validator=optional(ge(0)))
    weights: Literal["ema", "raw"] = "ema"


def guide_misfits(recipe: "Recipe") -> Iterable[Problem]:
    """A guide that does nothing, or is to draw where it costs what no ledger has."""
    if not stated(recipe.sampling, "guide"):
        return
    if recipe.sampling.guidance == 1:
        yield Problem(
            "sampling.guide", "does nothing where sampling.guidance is 1: set that to more, or leave this key out"
        )
    if recipe.training.sample_every:
        yield Problem(
            "training.sample_every",
            "draws as [sampling] says, and sampling.guide is for runs that are trained: leave one of them out",
        )
