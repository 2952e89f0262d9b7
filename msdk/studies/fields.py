"""Study files as data: recipes, what is changed in them, seeds, and how trials are compared. Imports no torch."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import attrs
from attrs.validators import deep_iterable, ge, gt, lt, min_len, optional

from msdk.recipe.quantities import quantity

Target = Literal["best", "final"]
Equal = Literal["iterations", "flops"]
Chooser = Literal["tpe", "random", "grid"]


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
class Range:
    """Numbers that a search may choose: whole ones where both ends are, others rounded to four digits.

    Args:
        low: The least of them.
        high: The largest of them.
        log: Whether they are drawn by their logarithm, as suits learning rates.
        step: Between them, from `low`; any when not given.
    """

    low: Any
    high: Any
    log: bool = False
    step: Any = None

    def __attrs_post_init__(self) -> None:
        numbers = [self.low, self.high, *([] if self.step is None else [self.step])]
        for each in numbers:
            if type(each) not in (int, float) or not math.isfinite(each) or abs(each) > 2**53:
                raise ValueError(f"`low`, `high` and `step` are finite numbers, got {each!r}")
        if self.low >= self.high:
            raise ValueError(f"`low` is to be less than `high`, got {self.low} and {self.high}")
        if self.log and (self.low <= 0 or self.step is not None):
            raise ValueError("`log` is of numbers above 0, without `step`")
        if self.step is not None and not 0 < self.step <= self.high - self.low:
            raise ValueError(f"`step` is to be above 0 and at most `high` less `low`, got {self.step}")

    @property
    def whole(self) -> bool:
        """Whether it has whole numbers alone."""
        return all(isinstance(each, int) for each in (self.low, self.high, self.step) if each is not None)


Space = Mapping[str, Range | tuple[Any, ...]]
"""Key of recipes -> what a search may choose for it: a list of values, or a range of numbers."""


@attrs.frozen(kw_only=True)
class Search:
    """The table `[study.search]`: who chooses the settings that are tried of each arm. Needs optuna.

    Args:
        name: The sampler of optuna: "tpe" learns from results, "random" and "grid" do not.
        trials: Settings that are tried of each arm, each with all seeds.
        at_once: Settings of an arm that are proposed before the first of them has its result. More can be trained at
            the same time, and "tpe" learns less from each.
        seed: Of the sampler.
        space: Key of recipes -> what may be chosen in all arms: [values], or { low, high, log, step }.
    """

    name: Chooser
    trials: int = attrs.field(default=20, validator=ge(1))
    at_once: int = attrs.field(default=1, validator=ge(1))
    seed: int = attrs.field(default=0, validator=[ge(0), lt(2**32)])
    space: Space = attrs.field(factory=dict[str, "Range | tuple[Any, ...]"])


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
            images. Others are of evaluations on the way, which recipes or `set` describe in `evaluation`: `fid`, `kid`,
            ..., or `common-loss`, the evaluations' denoising loss, for arms that train under different laws.
        scores: Metrics of finished trials: of images that each draws as its recipe's `[evaluation]` says, "fid" for
            example; "denoising-loss" is of held-out images in the stages of the arm that has most of them, in all arms.
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
        search: Who proposes settings of each arm, of which likewise the best one counts; in the place of `best_of`.
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
    search: Search | None = None
    size: str = ""


@attrs.frozen(kw_only=True)
class Arm:
    """A table `[arms.NAME]`.

    Args:
        recipe: Its file, from the folder of the study.
        set: Key of the recipe -> its value, over `set` of the study.
        over: Key of the recipe -> values, besides `over` of the study.
        space: Key of the recipe -> what the study's search may choose, besides its own `space`.
        paper: What the paper says of it: any name -> number, shown beside what is found.
    """

    recipe: Path
    set: Mapping[str, Any] = attrs.field(factory=dict[str, Any])
    over: Mapping[str, tuple[Any, ...]] = attrs.field(factory=dict[str, tuple[Any, ...]])
    space: Space = attrs.field(factory=dict[str, "Range | tuple[Any, ...]"])
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

    def space(self, arm: str) -> Space:
        """What is searched in an arm; nothing where no search is."""
        search = self.study.search
        return {} if search is None else {**search.space, **self.arms[arm].space}
