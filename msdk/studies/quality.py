"""Where the quality of a trial is read: by metric, a list of looks. Imports no torch.

The one place that a metric of another kind is added to: `METRICS` names what reads its looks from a run folder.
"""

import json
import math
import typing
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import attrs

from msdk.errors import RunError


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


METRICS: Mapping[str, Metric] = {"denoising-loss": Metric("held-out loss", held_out_losses)}
"""By the name in a study."""
