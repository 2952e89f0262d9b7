"""Scores of runs in one row, where one protocol made them."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import attrs

from msdk.evaluation.scores import Scores, scores_of, unlike


@attrs.frozen
class Row:
    """A score of several runs, all by one protocol but for whose weights they are.

    Attributes:
        name: What it is called.
        values: Of each run; None of a run that has none by this protocol.
        checkpoints: The iteration of each.
        better: Which way is better.
    """

    name: str
    values: tuple[float | None, ...]
    checkpoints: tuple[int | None, ...]
    better: str


def rows_of(paths: Sequence[Path], names: Sequence[str]) -> tuple[tuple[Row, ...], tuple[str, ...]]:
    """The scores that runs have, and why some do not stand side by side.

    The newest score of each name of the first run that has one decides the protocol; of others the newest one with the
    same stamp stands beside it. One whose stamp is another is left out, and the field that differs is named.
    """
    found = [sorted(scores_of(path), key=lambda each: (-each.images.checkpoint, each.name)) for path in paths]
    rows: list[Row] = []
    notes: list[str] = []
    for name in dict.fromkeys(score.name for run in found for scores in run for score in scores.scores):
        own = [[scores for scores in run if _of(scores, name) is not None] for run in found]
        first = next(index for index, run in enumerate(own) if run)
        # Of several protocols of the first run the one that others share, if any do.
        leading = max(own[first], key=lambda each: sum(any(not unlike(each, b, name) for b in run) for run in own))
        chosen: list[Scores | None] = []
        for index, run in enumerate(own):
            alike = [scores for scores in run if not unlike(leading, scores, name)]
            chosen.append(leading if index == first else alike[0] if alike else None)
            if run and not alike:
                field, was, now = unlike(leading, run[0], name)[0]
                more = len(unlike(leading, run[0], name)) - 1
                others = f", and {more} more fields" if more else ""
                notes.append(
                    f"{name} of {names[index]} has another stamp than that of {names[first]}: {field} is {_told(now)}, "
                    f"not {_told(was)}{others}: it does not stand beside it"
                )
        values = tuple(None if each is None else _of(each, name) for each in chosen)
        checkpoints = tuple(None if each is None else each.images.checkpoint for each in chosen)
        better = next(score.better for score in leading.scores if score.name == name)
        rows.append(Row(name, values, checkpoints, better))
    return tuple(rows), tuple(notes)


def _of(scores: Scores, name: str) -> float | None:
    return next((score.value for score in scores.scores if score.name == name), None)


def _told(value: Any) -> str:
    return "none" if value is None else str(value)
