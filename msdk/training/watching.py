"""What looks at a run while it trains: the loss on held-out images, what stops by it, and contact sheets."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import attrs
from torch import Tensor

from msdk.distributed import Group
from msdk.recipe import Recipe
from msdk.runs import Checkpoint
from msdk.runs.watched import Watched
from msdk.trackers.base import Number, Numbers
from msdk.training.drawing import Feed
from msdk.training.freezing import Freezing
from msdk.training.sheets import Sheets
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
        stop = recipe.training.stop
        self.shares = recipe.training_shares() if stop is not None else ()
        self.validation = Validation(recipe, step, feed, group) if recipe.training.validate_every else None
        self.sheets = Sheets(recipe, step, group) if recipe.training.sample_every else None
        self.freezing = None if stop is None else Freezing(recipe, stop, step, feed)

    @property
    def used(self) -> bool:
        """Whether there is anything to keep."""
        return self.validation is not None or self.sheets is not None

    @property
    def ended(self) -> bool:
        """Whether there is nothing left to train."""
        return self.freezing is not None and self.kept.ended(self.shares)

    def best(self) -> Mapping[str, Tensor]:
        """The best weights of what goes on, for checkpoints."""
        return {} if self.freezing is None else self.freezing.kept()

    def check(self, checkpoint: Checkpoint, source: Path) -> None:
        """Raises `RunError` where a checkpoint lacks what it should have kept, or is another recipe's."""
        kept = checkpoint.watched or self.kept
        if self.freezing is not None:
            self.freezing.check(kept, checkpoint.best, source / "best.safetensors")

    def restore(self, checkpoint: Checkpoint) -> None:
        """Takes it up where a checkpoint left it."""
        self.kept = checkpoint.watched or self.kept
        if self.freezing is not None:
            self.freezing.restore(self.kept, checkpoint.best)

    def due(self, iteration: int) -> bool:
        """Whether there is something to look at after so many steps."""
        return self.validation is not None and iteration % self.recipe.training.validate_every == 0

    def look(self, iteration: int, images_by_stage: Sequence[int]) -> Numbers:
        """Looks at the loss on held-out images, does what follows from it, and tells it. Waits for the device."""
        assert self.validation is not None
        self.losses, self.loss = self.validation.losses()
        seen = [
            count + self.validation.images * (stage in self.validation.stages)
            for stage, count in enumerate(self.kept.held_out_images)
        ]
        self.kept = attrs.evolve(self.kept, held_out_images=tuple(seen))
        if self.freezing is not None:
            self.kept = self.freezing.judge(self.kept, self.losses, self.loss, images_by_stage, iteration)
        return {"held_out_loss": _finite(self.loss), "held_out_loss_by_stage": [_finite(each) for each in self.losses]}

    def sheet(self, iteration: int) -> Tensor | None:
        """A contact sheet, uint8 [3, h, w], where one is due after so many steps. Waits for the device."""
        if self.sheets is None or iteration % self.recipe.training.sample_every:
            return None
        calls = tuple(old + new for old, new in zip(self.kept.sampled_calls, self.sheets.calls, strict=True))
        self.kept = attrs.evolve(self.kept, sampled_calls=calls)
        return self.sheets.draw()

    def counts(self) -> Numbers:
        """What watching has taken so far, for every line and the ledger; nothing where nobody watches."""
        found: dict[str, Sequence[Number]] = {}
        if self.validation is not None:
            found["held_out_images_by_stage"] = list(self.kept.held_out_images)
        if self.sheets is not None:
            found["sampled_calls_by_stage"] = list(self.kept.sampled_calls)
        if self.freezing is not None:
            found["frozen_by_stage"] = list(self.kept.frozen)
        return found


def _finite(value: float) -> Number:
    return value if math.isfinite(value) else None
