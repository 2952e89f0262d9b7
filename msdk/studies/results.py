"""What a study found, as it stands in study.json. Imports no torch."""

import math
from collections.abc import Mapping
from typing import Any, Literal

import attrs

from msdk.recipe.results import to_json

State = Literal["done", "training", "stopped", "failed", "new"]
Verdict = Literal["better", "worse", "no difference", "unknown"]
Account = Literal["training", "paper"]


@attrs.frozen(kw_only=True)
class Price:
    """What one trial costs.

    Attributes:
        iterations: Of its training.
        batch_size: Images of each.
        flops: Training FLOPs, by exact MACs: forward, backward, what is computed again, and the encoding of latents.
        macs_per_call: Of the mean network call of the sampler, by the paper's convention.
        paper_macs: That, times the iterations: what the paper calls FLOPs.
        parameters: Of all networks.
        flops_per_image: Of training on an image of each stage.
        autoencoder_flops_per_image: Of encoding it.
        hours: On the card that was named, or as measured here; None where not asked for.
        memory: Bytes at the peak of a step, by simulation; None where not asked for.
    """

    iterations: int
    batch_size: int
    flops: float
    macs_per_call: float
    paper_macs: float
    parameters: int
    flops_per_image: tuple[float, ...]
    autoencoder_flops_per_image: float
    hours: float | None
    memory: int | None


@attrs.frozen
class Point:
    """A look at a trial.

    Attributes:
        iteration: Optimiser steps done.
        flops: Training FLOPs spent, by the images that each stage has seen.
        paper_macs: What the paper's account says of so many iterations.
        value: The quality, the smaller the better.
        by_stage: Of each stage; None where it has none.
        seconds: Time spent training.
    """

    iteration: int
    flops: float
    paper_macs: float
    value: float
    by_stage: tuple[float | None, ...]
    seconds: float


@attrs.frozen
class TrialResult:
    """A trial.

    Attributes:
        number: In the study.
        seed: Of its training.
        folder: Its run folder, from that of the study.
        state: How far it is.
        problem: Why it failed; empty where it did not.
        points: Looks, in the order of iterations.
    """

    number: int
    seed: int
    folder: str
    state: State
    problem: str
    points: tuple[Point, ...]


@attrs.frozen
class Interval:
    """An estimate with its interval; None where it is infinite, or there is none."""

    estimate: float | None
    low: float | None
    high: float | None

    @classmethod
    def of(cls, estimate: float, low: float, high: float) -> "Interval":
        """Of numbers that may be infinite."""
        return cls(*(value if math.isfinite(value) else None for value in (estimate, low, high)))


@attrs.frozen
class ArmResult:
    """An arm at one point of its grid.

    Attributes:
        arm: Of the study.
        name: With what the grid sets.
        recipe: Its file.
        changes: What is set in it.
        edges_ratio: Interior stage edges.
        kept: Whether it is within the budget.
        price: Of one trial.
        best: The mean over seeds of the best quality, and its spread: the standard deviation over seeds.
        spread: That; None for fewer than two seeds.
        seconds: Mean time of a trial.
        paper: What the paper says of it.
        trials: One for each seed.
    """

    arm: str
    name: str
    recipe: str
    changes: tuple[str, ...]
    edges_ratio: tuple[float, ...]
    kept: bool
    price: Price
    best: float | None
    spread: float | None
    seconds: float | None
    paper: Mapping[str, float]
    trials: tuple[TrialResult, ...]


@attrs.frozen
class Comparison:
    """An arm against the baseline, under one account of what is spent.

    Attributes:
        name: Of the arm.
        account: What is spent: training FLOPs, or the paper's MACs.
        seeds: Those that both have.
        target: The baseline's quality, which is to be reached.
        baseline: What the baseline spends until it has it.
        crossing: What the arm spends until it has it; infinite where it has it never within its training.
        ratio: The one over the other.
        reached: Share of the resamples in which it is reached.
        difference: Quality of the arm less that of the baseline where both have spent what the one that spends less
            spends in all; below 0 is better.
        verdict: Whether the arm is better, by the interval of the ratio.
        sentence: That in words.
    """

    name: str
    account: Account
    seeds: tuple[int, ...]
    target: float
    baseline: float
    crossing: Interval
    ratio: Interval
    reached: float
    difference: Interval
    verdict: Verdict
    sentence: str


@attrs.frozen(kw_only=True)
class ScoreResult:
    """A number of an arm's finished trials.

    Attributes:
        name: What it may be called: "FD-digits", "loss, stage 0".
        arm: Name of the arm.
        seeds: Of the trials that have it.
        mean: Over seeds.
        spread: The standard deviation over seeds; None of one alone.
        difference: Less that of the baseline, seed by seed, with its interval; None of the baseline itself.
    """

    name: str
    arm: str
    seeds: tuple[int, ...]
    mean: float
    spread: float | None
    difference: Interval | None


@attrs.frozen
class TunedKey:
    """What was chosen for one key of an arm's recipe.

    Attributes:
        key: Of the recipe.
        value: What was chosen, as TOML has it.
        tried: What it was chosen from, likewise: values, or a range.
        at_end: Whether it is a number at an end of these, so that better ones may lie beyond.
    """

    key: str
    value: str
    tried: str
    at_end: bool


@attrs.frozen
class Tuning:
    """How an arm was tuned.

    Attributes:
        arm: Its name without what it is tuned by.
        chosen: Name of the one in `arms` that is compared; None while none has been trained.
        by: "grid", or who proposed the settings.
        settings: How many were tried, or are to be.
        keys: What the chosen one has; empty where nothing of this arm is tuned.
    """

    arm: str
    chosen: str | None
    by: str
    settings: int
    keys: tuple[TunedKey, ...]


@attrs.frozen
class Stamp:
    """What made the numbers.

    Attributes:
        date: Of the last change, UTC.
        msdk: Versions of the trials, and so on.
        python: Likewise.
        torch: Likewise.
        machines: Processors, in words.
        data: SHA-256 of the data of each trial, each once.
    """

    date: str
    msdk: str
    python: str
    torch: tuple[str, ...]
    machine: str
    data: tuple[str, ...]


@attrs.frozen(kw_only=True)
class StudyResult:
    """The content of study.json.

    Attributes:
        study: The file.
        title: Its title.
        question: What is asked.
        size: Which of the file's sizes.
        metric: What quality is.
        metric_words: That in words.
        target: Which quality of the baseline is to be reached.
        equal: What arms have in common.
        confidence: Of the intervals.
        baseline: Name of the arm that others are compared with.
        seeds: Of the trials.
        planned_flops: Training FLOPs of all trials that are kept.
        spent_flops: Of those that were trained, as far as they are.
        arms: The baseline first.
        comparisons: Of every other arm that is kept and has been trained, under both accounts.
        verdict: What was found, a sentence.
        stamp: What made the numbers.
        scores: Of finished trials, where the study asks for any: name by name, the baseline's first.
        stages_by: The arm in whose stages losses among them are.
        tuning: Of each arm, where arms are tuned: the baseline's first.
        unknown: Settings that a search is still to propose, at most.
    """

    study: str
    title: str
    question: str
    size: str
    metric: str
    metric_words: str
    target: str
    equal: str
    confidence: float
    baseline: str
    seeds: tuple[int, ...]
    planned_flops: float
    spent_flops: float
    arms: tuple[ArmResult, ...]
    comparisons: tuple[Comparison, ...]
    verdict: str
    stamp: Stamp
    scores: tuple[ScoreResult, ...] = ()
    stages_by: str = ""
    tuning: tuple[Tuning, ...] = ()
    unknown: int = 0

    @property
    def failed(self) -> tuple[TrialResult, ...]:
        """Trials that failed."""
        return tuple(trial for arm in self.arms for trial in arm.trials if trial.state == "failed")

    def as_json(self) -> dict[str, Any]:
        """The object of study.json."""
        return to_json(self)
