"""Runs side by side: how they were set, how they went, what they cost."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import attrs

from msdk.browsing.scored import Row, rows_of
from msdk.browsing.summaries import Line, RunSummary, lines_of, summary
from msdk.errors import MsdkError, RunError
from msdk.recipe.differences import Difference
from msdk.recipe.differences import compare as differences
from msdk.recipe.results import to_json
from msdk.runs.folder import run_recipe
from msdk.runs.lock import read_lock


@attrs.frozen
class Comparison:
    """Runs side by side.

    Attributes:
        runs: What each is; the first is what others are compared with.
        names: A short name for each, which no other has.
        curves: The lines that each run told of.
        settings: Of each run but the first, the keys on which its recipe differs from the first's.
        notes: Why numbers of these runs cannot be compared, sentences.
        scores: Numbers of evaluations that one protocol made, a row for each.
    """

    runs: tuple[RunSummary, ...]
    names: tuple[str, ...]
    curves: tuple[tuple[Line, ...], ...]
    settings: tuple[tuple[Difference, ...], ...]
    notes: tuple[str, ...]
    scores: tuple[Row, ...] = ()

    def as_json(self) -> dict[str, Any]:
        """The object of `msdk compare --json`."""
        return to_json(self)


LOSS = ("weighting", "parameterization", "schedule", "training.objective", "training.noise", "data", "autoencoder")
"""Where recipes differ in these keys, or in those below them, their losses measure different things."""


def compare(paths: Sequence[Path]) -> Comparison:
    """Puts runs side by side.

    Args:
        paths: Run folders, two or more.

    Raises:
        RunError: One is no run folder, or cannot be read.
    """
    if len(paths) < 2:
        raise MsdkError("give two run folders or more: msdk compare runs/a runs/b")
    recipes = [run_recipe(path) for path in paths]
    settings = [tuple(differences(recipes[0], recipe)) for recipe in recipes[1:]]
    names = _names(paths)
    notes = list(_unlike(names, settings))
    digests = [_digest(path) for path in paths]
    notes += [
        f"{name} was trained on other data than {names[0]}: SHA-256 {digest[:12]}... and {digests[0][:12]}..."
        for name, digest in zip(names[1:], digests[1:], strict=True)
        if digest and digests[0] and digest != digests[0]
    ]
    looks = [(recipe.training.validate_weights, recipe.training.validate_images) for recipe in recipes]
    notes += [
        f"held-out losses of {name} are of other weights or images than those of {names[0]}: {look[0]} on at most "
        f"{look[1]:,}, and {looks[0][0]} on {looks[0][1]:,}"
        for name, look, recipe in zip(names[1:], looks[1:], recipes[1:], strict=True)
        if look != looks[0] and recipe.training.validate_every and recipes[0].training.validate_every
    ]
    edges = [None if recipe.clustered else recipe.partition() for recipe in recipes]
    notes += [
        f"{name} has other stages than {names[0]}, so losses of a stage of the same number are of other noise levels"
        for name, each in zip(names[1:], edges[1:], strict=True)
        if each != edges[0]
    ]
    scores, refused = rows_of(paths, names)
    notes += refused
    return Comparison(
        scores=scores,
        runs=tuple(summary(path) for path in paths),
        names=names,
        curves=tuple(tuple(lines_of(path)) for path in paths),
        settings=tuple(settings),
        notes=tuple(notes),
    )


def _digest(path: Path) -> str:
    try:
        return str(read_lock(path).data.get("sha256", ""))
    except RunError:
        return ""


def _unlike(names: Sequence[str], settings: Sequence[Sequence[Difference]]) -> list[str]:
    found: list[str] = []
    for name, differs in zip(names[1:], settings, strict=True):
        paths = [each.path for each in differs if each.path != "data.path"]
        keys = [path for path in paths if any(path == key or path.startswith(f"{key}.") for key in LOSS)]
        if keys:
            some = ", ".join(keys[:3]) + (", ..." if len(keys) > 3 else "")
            found.append(f"{name} has another loss than {names[0]} ({some}): their numbers cannot be compared")
    return found


def _names(paths: Sequence[Path]) -> tuple[str, ...]:
    """The last part of each path, and as many before it as tell it from the others."""
    parts = [path.resolve().parts for path in paths]
    longest = max(map(len, parts))
    count = next((n for n in range(1, longest) if len({each[-n:] for each in parts}) == len(set(parts))), longest)
    names = ["/".join(each[-count:]) for each in parts]
    return tuple(name if names.count(name) == 1 else f"{name} ({i + 1})" for i, name in enumerate(names))
