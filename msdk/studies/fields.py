"""Study files as data: recipes, what is changed in them, seeds, and how trials are compared. Imports no torch."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import attrs
from attrs.validators import deep_iterable, ge, gt, lt, min_len, optional

from msdk.recipe.quantities import quantity

Target = Literal["best", "final"]
Equal = Literal["iterations", "flops"]


def _paired(_: object, field: object, value: tuple[int, ...]) -> None:
    if len(set(value)) != len(value):
        raise ValueError("the same seed twice is one trial, not two: name each once")
    if len(value) < 3:
        raise ValueError(f"at least 3, of which a spread can be told, got {len(value)}")


def _flops(_: object, field: object, value: float | str) -> None:
    quantity(str(value), "FLOPs")


def _known(_: object, field: object, value: tuple[str, ...]) -> None:
    from msdk.studies.quality import known_metrics

    for name in value:
        if name not in known_metrics():
            raise ValueError(f"no metric '{name}' of a study. Known: {', '.join(known_metrics())}")


def _metric_names(_: object, __: object, value: tuple[str, ...]) -> None:
    from msdk import metrics

    for name in value:
        metrics.get(name)


@attrs.frozen(kw_only=True)
class Options:
    """The table `[study]`.

    Args:
        title: One line for tables.
        question: What is asked, a sentence.
        baseline: The arm that the others are compared with; the first one when not given.
        seeds: `training.seed` of the trials, three or more; every arm has the same ones, so that they are paired.
        checkpoints: Iterations between looks at the quality, `training.validate_every`.
        held_out: Share of the images that never train, `data.held_out`, the same in all arms.
        metrics: What quality is; the first is what arms are compared by. `denoising-loss` is the loss on held-out
            images.
        scores: Metrics of finished trials: of images that each draws as its recipe's `[evaluation]` says, "fid" for
            example; "denoising-loss" is of held-out images in the stages of the arm that has most of them, in all arms.
            images. Others are of evaluations on the way, which recipes or `set` describe in `evaluation`: `fid`, `kid`,
            ..., or `common-loss`, the evaluations' denoising loss, for arms that train under different laws.
        evaluate_every: Iterations between evaluations, a multiple of `checkpoints`; as many as these when not given.
            Without a metric of evaluations there are none.
        target: What the baseline's quality is: its "best" so far, as who keeps the best checkpoint has it, or its
            "final" one.
        equal: What arms have in common: their recipes' "iterations", or "flops": then each is trained for as many
            iterations as cost what the baseline's training costs.
        confidence: Of the intervals.
        budget: Most training FLOPs of all trials together: "2E". Arms that exceed it are left out.
        set: Key of recipes -> its value in all arms.
        over: Key of recipes -> values; each arm is trained with each, and with each combination of several keys.
        best_of: Keys of `over` that arms are tuned by: of each arm the value with the best mean over seeds counts, the
            baseline's too; all of them are told.
        size: The size that is meant when none is named.
    """

    title: str = ""
    question: str = ""
    baseline: str | None = None
    seeds: tuple[int, ...] = attrs.field(default=(0, 1, 2), validator=[deep_iterable(ge(0)), _paired])
    checkpoints: int = attrs.field(default=100, validator=ge(1))
    held_out: float = attrs.field(default=0.1, validator=[gt(0), lt(1)])
    metrics: tuple[str, ...] = attrs.field(default=("denoising-loss",), validator=[min_len(1), _known])
    scores: tuple[str, ...] = attrs.field(default=(), validator=_metric_names)
    evaluate_every: int | None = attrs.field(default=None, validator=optional(ge(1)))
    target: Target = "best"
    equal: Equal = "iterations"
    confidence: float = attrs.field(default=0.95, validator=[gt(0), lt(1)])
    budget: float | str | None = attrs.field(default=None, validator=optional(_flops))
    set: Mapping[str, Any] = attrs.field(factory=dict[str, Any])
    over: Mapping[str, tuple[Any, ...]] = attrs.field(factory=dict[str, tuple[Any, ...]])
    best_of: tuple[str, ...] = ()
    size: str = ""


@attrs.frozen(kw_only=True)
class Arm:
    """A table `[arms.NAME]`.

    Args:
        recipe: Its file, from the folder of the study.
        set: Key of the recipe -> its value, over `set` of the study.
        over: Key of the recipe -> values, besides `over` of the study.
        paper: What the paper says of it: any name -> number, shown beside what is found.
    """

    recipe: Path
    set: Mapping[str, Any] = attrs.field(factory=dict[str, Any])
    over: Mapping[str, tuple[Any, ...]] = attrs.field(factory=dict[str, tuple[Any, ...]])
    paper: Mapping[str, float] = attrs.field(factory=dict[str, float])


@attrs.frozen(kw_only=True)
class Study:
    """A study of one size.

    Args:
        study: How it is done.
        arms: Name -> what is compared, two or more.
    """

    study: Options
    arms: Mapping[str, Arm]

    @property
    def baseline(self) -> str:
        """The arm that others are compared with."""
        return self.study.baseline or next(iter(self.arms))
