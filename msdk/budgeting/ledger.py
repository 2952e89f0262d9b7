"""The ledger of a run: what training really spent in each stage, beside what the recipe predicted."""

import contextlib
import itertools
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import attrs
from attrs.validators import deep_iterable, ge, optional

from msdk.budgeting.training_price import Flops
from msdk.errors import RunError
from msdk.recipe import Recipe
from msdk.recipe.results import parsed, to_json
from msdk.report import spent_grid
from msdk.runs.evaluations import costs
from msdk.runs.files import write_json
from msdk.runs.watched import Watched
from msdk.trackers.base import Log, Numbers, Tracker

if TYPE_CHECKING:
    from torch import Tensor

    from msdk.budgeting.costs import Budget


@attrs.frozen
class Spent:
    """FLOPs of the images that each stage has really seen."""

    forward_flops_by_stage: tuple[float, ...]
    backward_flops_by_stage: tuple[float, ...]
    recompute_flops_by_stage: tuple[float, ...]
    total_flops_by_stage: tuple[float, ...]


@attrs.frozen
class Predicted:
    """What the recipe says of the same iteration, with the shares that its law of training times gives each stage."""

    forward_macs: float
    total_flops: float
    iterations: int
    batch_size: int
    accumulation: int
    images: int
    images_by_stage: tuple[float, ...]
    forward_flops_by_stage: tuple[float, ...]
    backward_flops_by_stage: tuple[float, ...]
    recompute_flops_by_stage: tuple[float, ...]
    total_flops_by_stage: tuple[float, ...]


@attrs.frozen
class Looked:
    """What looking at the loss of held-out images took, beside training."""

    images_by_stage: tuple[int, ...] = attrs.field(validator=deep_iterable(ge(0)))
    flops_by_stage: tuple[float, ...]
    total_flops: float


@attrs.frozen
class Sampled:
    """What contact sheets took, beside training."""

    calls_by_stage: tuple[int, ...] = attrs.field(validator=deep_iterable(ge(0)))
    flops_by_stage: tuple[float, ...]
    total_flops: float


@attrs.frozen
class Stopped:
    """What stopping by held-out losses saved: what the recipe predicts without it, less what it predicts with it.

    Attributes:
        iteration_by_stage: Since when each stage stays as it is; None while it trains.
        ended: Whether training ended by it, so that what is predicted is all of the recipe's iterations.
        saved_flops_by_stage: Less than 0 where a stage was given draws of others.
        saved_flops: Of all stages.
    """

    iteration_by_stage: tuple[int | None, ...] = attrs.field(validator=deep_iterable(optional(ge(0))))
    ended: bool
    saved_flops_by_stage: tuple[float, ...]
    saved_flops: float


@attrs.frozen
class Ledger:
    """The content of ledger.json at one iteration (docs/contracts.md).

    Attributes:
        iteration: Optimiser steps done.
        convention: How MACs are counted.
        images: Seen so far.
        images_by_stage: Those of each stage.
        macs_per_image_by_stage: Forward MACs of one image.
        forward_macs_by_stage: Of all images seen.
        forward_macs: Of all stages.
        total_flops: Forward, backward, and what was computed again.
        spent: FLOPs by stage.
        predicted: The same by the recipe alone.
        relative_difference_by_stage: How far FLOPs spent are from FLOPs predicted; None where none were.
        validation: What held-out losses took; None where nobody looked at any. It is in no other figure.
        sampling: What contact sheets took, likewise.
        stopping: What was saved by `training.stop`; None where no stage was stopped.
    """

    iteration: int
    convention: str
    images: int
    images_by_stage: tuple[int, ...]
    macs_per_image_by_stage: tuple[int, ...]
    forward_macs_by_stage: tuple[int, ...]
    forward_macs: int
    total_flops: float
    spent: Spent
    predicted: Predicted
    relative_difference_by_stage: tuple[float | None, ...]
    validation: Looked | None = None
    sampling: Sampled | None = None
    stopping: Stopped | None = None

    def __repr__(self) -> str:
        return spent_grid(self, "Ledger").brief()

    def _repr_html_(self) -> str:
        return spent_grid(self, "Ledger").html()

    def as_json(self) -> dict[str, Any]:
        """The object of ledger.json."""
        return to_json(self)


@attrs.frozen
class Seen:
    """The facts of a run in its ledger; all else follows from the recipe."""

    iteration: int = attrs.field(validator=ge(0))
    images_by_stage: tuple[int, ...] = attrs.field(validator=deep_iterable(ge(0)))
    validation: Looked | None = None
    sampling: Sampled | None = None
    stopping: Stopped | None = None
    predicted: Any = None

    @property
    def watched(self) -> Watched:
        """What those took and did who watched."""
        none = Watched.nothing(len(self.images_by_stage))
        return attrs.evolve(
            none,
            held_out_images=none.held_out_images if self.validation is None else self.validation.images_by_stage,
            sampled_calls=none.sampled_calls if self.sampling is None else self.sampling.calls_by_stage,
            frozen=none.frozen if self.stopping is None else self.stopping.iteration_by_stage,
        )

    @property
    def expected(self) -> list[float] | None:
        """Images of each stage that were expected, which a run that changed its batch or stages alone knows."""
        found: Any = self.predicted.get("images_by_stage") if isinstance(self.predicted, dict) else None
        good = isinstance(found, list) and len(found) == len(self.images_by_stage)
        return found if good and all(type(each) in (int, float) and each >= 0 for each in found) else None

    @classmethod
    def _heard(cls, found: Mapping[str, Any]) -> Mapping[str, Any]:
        return {key: value for key, value in found.items() if key in attrs.fields_dict(cls)}


def read_seen(path: Path) -> Seen:
    """The facts of a ledger.json.

    Raises:
        RunError: It is damaged.
    """
    what = (
        "a ledger: training writes it anew at its next log line, `msdk train RECIPE --resume`. What does not suit it is"
    )
    try:
        content = path.read_bytes()
    except OSError as error:
        raise RunError(f"{path} cannot be read as {what} {error.strerror}") from error
    return parsed(content, path, Seen, what)


def ledger(
    budget: "Budget",
    images_by_stage: Sequence[int],
    iteration: int,
    recipe: Recipe,
    watched: Watched | None = None,
    expected: Sequence[float] | None = None,
) -> Ledger:
    """The ledger at one iteration.

    Args:
        budget: The recipe's, under the exact convention; it has the price of an image. Where `recompute` was changed on
            the way, all is told as it is now.
        images_by_stage: Images that each stage has really seen.
        iteration: Optimiser steps done.
        recipe: What is trained.
        watched: What those took and did who watched the training.
        expected: Images of each stage that were expected; by the recipe when not given. Batch and stages may change on
            the way.
    """
    options, images = recipe.training, sum(images_by_stage)
    macs = [price.forward // 2 for price in budget.image_flops]  # of all passes that the objective makes
    forward = [seen * each for seen, each in zip(images_by_stage, macs, strict=True)]
    # A law of stages may change on the way, so its shares up to here are what counts, not those of the whole training.
    shares, usual = recipe.training_shares(iteration), recipe.training_images(iteration)
    read = iteration * options.batch_size
    if expected is None or list(expected) == usual:
        expected = usual
    else:
        read = round(math.fsum(expected))
        shares = [each / max(read, 1) for each in expected]
    call = math.fsum(share * stage.macs for share, stage in zip(shares, budget.stages, strict=True))
    spent, predicted = (Flops.of(seen, budget.image_flops) for seen in (images_by_stage, expected))
    return Ledger(
        iteration=iteration,
        convention=budget.convention,
        images=images,
        images_by_stage=tuple(images_by_stage),
        macs_per_image_by_stage=tuple(macs),
        forward_macs_by_stage=tuple(forward),
        forward_macs=sum(forward),
        total_flops=sum(spent.by_stage),
        spent=Spent(spent.forward, spent.backward, spent.recompute, spent.by_stage),
        predicted=Predicted(
            forward_macs=images * options.loss.calls * call,
            total_flops=sum(predicted.by_stage),
            iterations=iteration,
            batch_size=options.batch_size,
            accumulation=options.accumulation,
            images=read,
            images_by_stage=tuple(expected),
            forward_flops_by_stage=predicted.forward,
            backward_flops_by_stage=predicted.backward,
            recompute_flops_by_stage=predicted.recompute,
            total_flops_by_stage=predicted.by_stage,
        ),
        relative_difference_by_stage=tuple(
            ours / theirs - 1 if theirs else None
            for ours, theirs in zip(spent.by_stage, predicted.by_stage, strict=True)
        ),
        **({} if watched is None else _beside(budget, watched, iteration, recipe)),
    )


def _images_of_what_goes_on(recipe: Recipe, frozen: Sequence[int | None], iteration: int) -> list[float]:
    """How many images of each stage the first so many steps are expected to have, where stages stop at these."""
    stop = recipe.training.stop
    ends = [iteration if at is None else min(at, iteration) for at in frozen]
    total = [0.0] * len(ends)
    for begin, end in itertools.pairwise(sorted({0, iteration, *ends})):
        drawn = [b - a for a, b in zip(recipe.training_images(begin), recipe.training_images(end), strict=True)]
        left = [images if end <= last else 0.0 for images, last in zip(drawn, ends, strict=True)]
        given = stop is not None and stop.share == "give" and any(left)
        scale = math.fsum(drawn) / math.fsum(left) if given else 1.0
        total = [sum_ + images * scale for sum_, images in zip(total, left, strict=True)]
    return total


def _beside(budget: "Budget", watched: Watched, iteration: int, recipe: Recipe) -> dict[str, Any]:
    """What watching took, and what it saved."""
    found: dict[str, Any] = {}
    if any(watched.held_out_images):
        looked = Flops.of(watched.held_out_images, budget.image_flops).forward
        found["validation"] = Looked(watched.held_out_images, looked, math.fsum(looked))
    if any(watched.sampled_calls):
        drawn = tuple(2.0 * n * stage.macs for n, stage in zip(watched.sampled_calls, budget.stages, strict=True))
        found["sampling"] = Sampled(watched.sampled_calls, drawn, math.fsum(drawn))
    if any(each is not None for each in watched.frozen):
        ended = watched.ended(recipe.training_shares())
        last = recipe.training.iterations if ended else iteration
        images = (recipe.training_images(last), _images_of_what_goes_on(recipe, watched.frozen, iteration))
        without, spent = (Flops.of(each, budget.image_flops).by_stage for each in images)
        saved = tuple(all_of_it - part for all_of_it, part in zip(without, spent, strict=True))
        found["stopping"] = Stopped(watched.frozen, ended, saved, math.fsum(saved))
    return found


@attrs.frozen(kw_only=True)
class LedgerTracker(Tracker):
    """ledger.json in the run folder: what training has spent. Every run has it; a recipe does not name it."""

    def open(self, run_dir: Path, recipe: Recipe) -> Log:
        from msdk.budgeting.assembling import budget

        return _Account(run_dir / "ledger.json", recipe, budget(recipe, convention="exact"))


@attrs.frozen
class _Account(Log):
    path: Path
    recipe: Recipe
    costs: "Budget"

    def log(self, step: int, numbers: Numbers) -> None:
        seen = cast("Sequence[int]", numbers["images_by_stage"])
        watched = Watched.told(numbers, len(seen))
        expected = cast("Sequence[float] | None", numbers.get("expected_images_by_stage"))
        told = ledger(self.costs, seen, step, self.recipe, watched, expected).as_json()
        judged = costs(self.path.parent)
        write_json(self.path, {**told, "evaluations": judged} if judged else told)

    def image(self, name: str, step: int, image: "Tensor") -> None:
        pass

    def rewind(self, step: int) -> None:
        """It is written anew each time; one of a later step goes, until a step is told again."""
        if not self.path.is_file():
            return
        with contextlib.suppress(RunError):  # a damaged one
            if read_seen(self.path).iteration <= step:
                return
        self.path.unlink()

    def close(self) -> None:
        pass
