"""Where the quality of a trial is read: by metric, a list of looks. Imports no torch.

`denoising-loss` is what training itself tells of held-out images. Any other name is of an evaluation that training
makes on the way (`training.evaluate_every`): of a metric whose smaller values are better, or `common-loss`, which is
the evaluations' denoising loss, under whatever weighting and law of times these say.
"""

import functools
import json
import math
import typing
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import attrs

from msdk import metrics
from msdk.errors import RunError
from msdk.evaluation.scores import read_scores


@attrs.frozen
class Look:
    """The quality of a run at one iteration, the smaller the better, and what was spent until then.

    Attributes:
        iteration: Optimiser steps done.
        value: Of all stages.
        by_stage: Of each stage; None where it has none, and empty for a metric that tells stages not apart.
        images_by_stage: Images that each stage has trained on.
        seconds: Time spent training.
    """

    iteration: int
    value: float
    by_stage: tuple[float | None, ...]
    images_by_stage: tuple[int, ...]
    seconds: float


def held_out_losses(run: Path) -> list[Look]:
    """The losses on held-out images that a run's metrics.jsonl tells of; a line that a crash cut short is left out.

    Raises:
        RunError: It cannot be read.
    """
    try:
        lines = (run / "metrics.jsonl").read_bytes().splitlines()
    except FileNotFoundError:
        return []
    except OSError as error:
        raise RunError(f"{run / 'metrics.jsonl'} cannot be read: {error.strerror}") from error
    found: list[Look] = []
    for line in lines:
        try:
            told: Any = json.loads(line)
            if isinstance(told, dict) and told.get("held_out_loss") is not None:
                found.append(_look(typing.cast("Mapping[str, Any]", told)))
        except (ValueError, TypeError, KeyError, RecursionError):
            continue
    return found


def _look(told: Mapping[str, Any]) -> Look:
    value = float(told["held_out_loss"])
    if not math.isfinite(value):
        raise ValueError("no number")
    return Look(
        iteration=int(told["iteration"]),
        value=value,
        by_stage=tuple(None if loss is None else float(loss) for loss in told["held_out_loss_by_stage"]),
        images_by_stage=tuple(int(images) for images in told["images_by_stage"]),
        seconds=float(told["seconds"]),
    )


@attrs.frozen
class Metric:
    """A quality of runs, the smaller the better.

    Attributes:
        words: What it is called in sentences.
        read: A run folder -> its looks, in the order of iterations.
    """

    words: str
    read: Callable[[Path], list[Look]]


HELD_OUT = "denoising-loss"
"""The metric that needs no evaluation."""

OF_EVALUATIONS: Mapping[str, str] = {"common-loss": "denoising-loss"}
"""Names in a study -> those of metrics, where both differ."""


def known_metrics() -> list[str]:
    """The names that a study may use."""
    return [HELD_OUT, *OF_EVALUATIONS, *(name for name in metrics.names() if name != HELD_OUT)]


def metric_named(name: str) -> Metric:
    """A metric by its name in a study."""
    if name == HELD_OUT:
        return Metric("held-out loss", held_out_losses)
    of = OF_EVALUATIONS.get(name, name)
    words = "held-out loss under the common law" if name in OF_EVALUATIONS else str(metrics.get(of).title)
    return Metric(words, functools.partial(evaluated, of))


def evaluated(metric: str, run: Path) -> list[Look]:
    """The first number of a metric in a run's evaluations, where training looked at held-out images as well.

    Raises:
        RunError: It cannot be read, or larger numbers are better.
    """
    spent = {look.iteration: look for look in held_out_losses(run)}
    found: dict[int, Look] = {}
    for file in sorted((run / "evaluations").glob("*.json")):
        scores = read_scores(file)
        own = [score for score in scores.scores if score.metric.get("name") == metric]
        at = spent.get(scores.images.checkpoint)
        if not own or at is None:
            continue
        if own[0].better != "lower":
            raise RunError(f"{own[0].name} is better the larger it is, and a study compares by what is to be small")
        stages = [score.value for score in own if " stage " in score.name]
        found.setdefault(at.iteration, attrs.evolve(at, value=own[0].value, by_stage=tuple(stages)))
    return [found[iteration] for iteration in sorted(found)]
