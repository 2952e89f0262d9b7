"""Scores as a table."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from msdk.errors import MsdkError, nearest, printable
from msdk.recipe.quantities import si_prefix, written
from msdk.report.canvas import STAGE_COLOURS, drawn, plain
from msdk.report.grid import Grid

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from msdk.evaluation.over_training import Curve
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


def curves_grid(curves: "Sequence[Curve]") -> Grid:
    """Scores of checkpoints, a row for each."""
    rows = tuple(
        (
            curve.run,
            curve.score,
            f"{point.iteration:,}",
            "-" if point.flops is None else written(point.flops, "FLOPs"),
            f"{point.value:.5g} {ARROWS[curve.better]}",
        )
        for curve in curves
        for point in curve.points
    )
    notes = ("Spent: forward, backward and recomputed FLOPs of training until then, by the run's ledger.",)
    return Grid("Scores over training", ("run", "score", "iterations", "spent", "value"), rows, notes, 2)


def curves_plot(curves: "Sequence[Curve]", kind: str) -> bytes:
    """Scores against iterations and against training FLOPs; a colour for each run, a row for each score.

    Raises:
        PlotError: matplotlib is not installed.
    """
    names = list(dict.fromkeys(curve.score for curve in curves))
    runs = list(dict.fromkeys(curve.run for curve in curves))
    most = max((point.flops or 0 for curve in curves for point in curve.points), default=0)
    prefix, unit = si_prefix(most) if most else ("", 1.0)

    def draw(figure: "Figure") -> None:
        axes = figure.subplots(len(names), 2, squeeze=False, sharex="col", sharey="row")
        for curve in curves:
            left, right = axes[names.index(curve.score)]
            number = runs.index(curve.run)
            look = {"color": STAGE_COLOURS[number % len(STAGE_COLOURS)], "marker": ".", "label": printable(curve.run)}
            left.plot([point.iteration for point in curve.points], [point.value for point in curve.points], **look)
            priced = [(point.flops / unit, point.value) for point in curve.points if point.flops is not None]
            right.plot([flops for flops, _ in priced], [value for _, value in priced], **look)
            left.set_ylabel(f"{curve.score} {ARROWS[curve.better]}")
            for each in (left, right):
                plain(each)
                each.grid(alpha=0.3, linewidth=0.5)
        axes[-1][0].set_xlabel("iterations")
        axes[-1][1].set_xlabel(f"{prefix}FLOPs of training spent")
        handles, labels = axes[0, 0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside upper left", ncols=2, frameon=False)

    return drawn((10.0, 0.8 + 2.4 * len(names)), kind, draw)


def curves_file(curves: "Sequence[Curve]", suffix: str) -> bytes:
    """The content of a file with curves: .png, .svg, .html, .md.

    Raises:
        MsdkError: An unknown suffix, or a plot without matplotlib.
    """
    kind = suffix.lower()
    if kind in (".png", ".svg"):
        return curves_plot(curves, kind.removeprefix("."))
    if kind == ".md":
        return curves_grid(curves).markdown().encode()
    if kind == ".html":
        from msdk.report.templates import inline, templates

        page = templates().get_template("comparison.html")
        title = "Scores over training"
        grids = [curves_grid(curves)]
        return page.render(
            title=title, grids=grids, curved="Scores", curves=inline(curves_plot(curves, "png")), sheets=[]
        ).encode()
    raise MsdkError(
        f"curves cannot be written as '{suffix}' files.{nearest(kind, FORMATS)} Known: {', '.join(FORMATS)}."
    )


FORMATS = (".png", ".svg", ".html", ".md")
ARROWS = {"lower": "↓", "higher": "↑"}


def value_of(score: "Score") -> str:
    """A value with an arrow to where it is better."""
    return f"{score.value:.5g} {ARROWS[score.better]}"


def spread_of(score: "Score") -> str:
    """The standard deviation over ranges of seeds, of which there are several."""
    apart = sum((value - score.value) ** 2 for value in score.ranges) / (len(score.ranges) - 1)
    return f"{apart**0.5:.2g}"


def _spread(score: "Score") -> str:
    """Over ranges of seeds, or, of one range, over the subsets of the metric."""
    if len(score.ranges) > 1:
        return f"± {spread_of(score)}"
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
