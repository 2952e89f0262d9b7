"""Scores as a table."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from msdk.recipe.quantities import written
from msdk.report.grid import Grid

if TYPE_CHECKING:
    from msdk.evaluation.scores import Score, Scores


def scores_grid(scores: "Scores") -> Grid:
    """The numbers of an evaluation, and under them what made them."""
    rows = tuple(
        (
            score.name,
            value_of(score),
            _spread(score),
            score.extractor.name if score.extractor is not None else "-",
            f"{score.images:,}",
            f"{score.references:,}",
        )
        for score in scores.scores
    )
    head = ("score", "value", "spread", "extractor", "images", "real")
    notes = [*_stamp(scores), *dict.fromkeys(note for score in scores.scores for note in score.notes), *scores.notes]
    return Grid(f"Evaluation {scores.name}", head, rows, tuple(f"{note.rstrip('.')}." for note in notes), numbers=1)


def value_of(score: "Score") -> str:
    """A value with an arrow to where it is better."""
    return f"{score.value:.5g} {'↓' if score.better == 'lower' else '↑'}"


def _spread(score: "Score") -> str:
    """Over ranges of seeds, or, of one range, over the subsets of the metric."""
    if len(score.ranges) > 1:
        mean = score.value
        spread = (sum((value - mean) ** 2 for value in score.ranges) / (len(score.ranges) - 1)) ** 0.5
        return f"± {spread:.2g}"
    return "-" if score.std is None else f"({score.std:.2g})"


def _stamp(scores: "Scores") -> list[str]:
    images, reference, cost = scores.images, scores.reference, scores.cost
    told: list[str] = []
    if images.drawn is not None:
        drawn: Mapping[str, Any] = images.drawn
        samplers = ", ".join(dict.fromkeys(str(each["name"]) for each in drawn["samplers"]))
        steps = " + ".join(map(str, drawn["steps"]))
        first, last = drawn["seeds"]
        told.append(
            f"Images: checkpoint {images.checkpoint:,} ({images.weights} weights), {samplers} in {steps} steps, "
            f"{drawn['nfe']} calls, guidance {drawn['guidance']:g}, seeds {first} to {last}"
        )
    elif images.files is not None:
        told.append(f"Images: files with SHA-256 {images.files['sha256'][:12]}")
    how = f", {reference.protocol}" if reference.protocol else ""
    told.append(
        f"Real images: {reference.data['name']}, {reference.split} {reference.images:,}{how}, "
        f"SHA-256 {reference.sha256[:12]}"
    )
    spent = "" if cost.flops is None or not cost.images else f", {written(cost.flops, 'FLOPs')} to draw"
    told.append(f"Took {cost.seconds:.1f} s{spent}")
    return told
