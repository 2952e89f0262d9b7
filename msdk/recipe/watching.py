"""How a recipe has its training watched: what may be said of it, and what does not go together. Imports no torch."""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Literal

import attrs
from attrs.validators import ge

from msdk.errors import Problem

if TYPE_CHECKING:
    from msdk.recipe.fields import Recipe


@attrs.frozen(kw_only=True)
class Stop:
    """When training leaves off, by the loss on held-out images (`training.validate_every`).

    A stage that has not got better for `patience` looks goes back to its weights, raw and averaged, of its best look,
    and stays there: its decoder, and its encoder where it has one of its own. Training ends where all have.

    Args:
        patience: Looks in a row without a loss below the best one. A look before which the stage saw no image does not
            count.
        by: What goes by a loss of its own: each "stage", or the "run" as a whole, by its mean loss.
        share: What becomes of the draws of a stage that stays as it is: it can "give" them to the others, in the ratio
            of theirs; or "keep" them, so that steps have fewer images and the others train as they would have.
    """

    patience: int = attrs.field(validator=ge(1))
    by: Literal["stage", "run"] = "stage"
    share: Literal["give", "keep"] = "give"


def watching_misfits(recipe: "Recipe") -> Iterable[Problem]:
    """What does not suit the images that are held out, or that are none."""
    options = recipe.training
    if options.validate_every and not recipe.data.held_out:
        yield Problem("training.validate_every", "looks at held-out images, and there are none: set data.held_out")
    if options.stop is not None and not options.validate_every:
        yield Problem("training.stop", "goes by the loss on held-out images: set training.validate_every")
    if options.stop is not None and options.stop.share == "give" and options.importance:
        yield Problem(
            "training.stop.share", '"give" changes the shares that training.importance makes up for: use "keep"'
        )
    shape = recipe.data.shape
    if options.sample_every and not (len(shape) == 3 and shape[0] in (1, 3)):
        yield Problem("training.sample_every", f"makes contact sheets, and {list(shape)} is no picture: leave it out")
