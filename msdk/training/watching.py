"""What looks at a run while it trains, and leaves it as it is: the loss on held-out images."""

import math

import attrs

from msdk.distributed import Group
from msdk.recipe import Recipe
from msdk.runs import Checkpoint
from msdk.runs.watched import Watched
from msdk.trackers.base import Number, Numbers
from msdk.training.drawing import Feed
from msdk.training.step import TrainingStep
from msdk.training.validation import Validation


class Watch:
    """Looks at a run when it is due; all its processes call it at the same steps.

    Args:
        recipe: Its training says when.
        step: What is looked at.
        feed: Has the held-out images.
        group: The processes of the run.

    Attributes:
        kept: What checkpoints keep of it.
        losses: Those of the last look, by stage; nan where there is none.
        loss: That of all; nan before the first look.
    """

    def __init__(self, recipe: Recipe, step: TrainingStep, feed: Feed, group: Group) -> None:
        self.recipe, self.step, self.feed, self.group = recipe, step, feed, group
        stages = len(recipe.decoders)
        self.kept = Watched.nothing(stages)
        self.losses, self.loss = [math.nan] * stages, math.nan
        self.validation = Validation(recipe, step, feed, group) if recipe.training.validate_every else None

    @property
    def used(self) -> bool:
        """Whether there is anything to keep."""
        return self.validation is not None

    def restore(self, checkpoint: Checkpoint) -> None:
        """Takes it up where a checkpoint left it."""
        if checkpoint.watched is not None:
            self.kept = checkpoint.watched

    def due(self, iteration: int) -> bool:
        """Whether there is something to look at after so many steps."""
        return self.validation is not None and iteration % self.recipe.training.validate_every == 0

    def look(self) -> Numbers:
        """Looks at the loss on held-out images, and what there is to tell. Waits for the device."""
        assert self.validation is not None
        self.losses, self.loss = self.validation.losses()
        seen = [
            count + self.validation.images * (stage in self.validation.stages)
            for stage, count in enumerate(self.kept.held_out_images)
        ]
        self.kept = attrs.evolve(self.kept, held_out_images=tuple(seen))
        return {"held_out_loss": _finite(self.loss), "held_out_loss_by_stage": [_finite(each) for each in self.losses]}

    def counts(self) -> Numbers:
        """What watching has taken so far, for every line and the ledger; nothing where nobody watches."""
        return {"held_out_images_by_stage": list(self.kept.held_out_images)} if self.validation is not None else {}


def _finite(value: float) -> Number:
    return value if math.isfinite(value) else None
