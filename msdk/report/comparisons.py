"""Runs below each other and side by side, as tables, plots and a page."""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from msdk.errors import MsdkError, nearest, printable
from msdk.recipe.quantities import si_prefix, written
from msdk.report.canvas import STAGE_COLOURS, drawn, logarithmic, plain
from msdk.report.figures import short
from msdk.report.grid import Grid
from msdk.report.runs import diff_grid
from msdk.report.scores import ARROWS

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from msdk.browsing import Comparison, RunSummary


def runs_grid(runs: "Sequence[RunSummary]", folder: Path) -> Grid:
    """A row for each run."""
    rows = tuple(
        (
            _below(run.path, folder),
            run.state,
            f"{run.iteration:,}" + (f" / {run.iterations:,}" if run.iterations else ""),
            _loss(run.loss),
            "-" if run.flops is None else written(run.flops, "FLOPs"),
        )
        for run in runs
    )
    notes = [f"{_below(run.path, folder)} is being written by {run.writer}." for run in runs if run.writer]
    notes += [f"{_below(run.path, folder)}: {run.problem}." for run in runs if run.problem]
    return Grid(f"Runs in {folder}", ("run", "state", "iteration", "loss", "spent"), rows, tuple(notes), 2)


def _below(path: str, folder: Path) -> str:
    inner = Path(path)
    return str(inner.relative_to(folder)) if inner != folder and inner.is_relative_to(folder) else path


def _loss(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"


def comparison_grids(found: "Comparison") -> list[Grid]:
    """What runs are and cost, their losses by stage, and the settings in which each differs from the first."""
    names = found.names
    head = ("", *names)
    facts = (
        ("state", *(run.state for run in found.runs)),
        ("iteration", *(f"{run.iteration:,} / {run.iterations:,}" for run in found.runs)),
        ("images", *(f"{run.images:,}" for run in found.runs)),
        ("FLOPs spent", *("-" if run.flops is None else written(run.flops, "FLOPs") for run in found.runs)),
        ("loss", *(_loss(run.loss) for run in found.runs)),
        *(
            (
                f"loss of stage {stage}",
                *(_loss(_of_stage(run.loss_by_stage, stage)) for run in found.runs),
            )
            for stage in _stages(run.stages for run in found.runs)
        ),
    )
    held = any(run.held_out_loss_by_stage for run in found.runs)
    if held:
        facts += (
            ("held-out loss", *(_loss(run.held_out_loss) for run in found.runs)),
            *(
                (
                    f"held-out loss of stage {stage}",
                    *(_loss(_of_stage(run.held_out_loss_by_stage, stage)) for run in found.runs),
                )
                for stage in _stages(run.stages for run in found.runs)
            ),
        )
    notes = (
        *(f"{note}." for note in found.notes),
        "Losses are of the last lines of metrics.jsonl, on training images"
        + ("; held-out ones of the last look." if held else "."),
    )
    grids = [Grid("Runs side by side", head, facts, notes, 1)]
    if found.scores:
        rows = tuple(
            (f"{row.name} {ARROWS[row.better]}", *map(_score, row.values, row.checkpoints)) for row in found.scores
        )
        told = ("Scores of one protocol, but for whose weights they are; behind each the iteration of its checkpoint.",)
        grids.append(Grid("Scores side by side", ("score", *names), rows, told, 1))
    first = found.names[0]
    for name, settings in zip(found.names[1:], found.settings, strict=True):
        grids.append(diff_grid(first, name, [each.as_json() for each in settings]))
    return grids


def _score(value: float | None, checkpoint: int | None) -> str:
    return "-" if value is None else f"{value:.5g} ({checkpoint:,})"


def curves_plot(found: "Comparison", kind: str) -> bytes:
    """Losses against iterations and against FLOPs spent, the whole and by stage; a colour for each run.

    Those on held-out images are dashed, in the same colour.

    Args:
        found: The runs.
        kind: "png" or "svg".

    Raises:
        PlotError: matplotlib is not installed.
    """
    panels = ["loss", *(f"loss of stage {stage}" for stage in _stages(run.stages for run in found.runs))]
    most = max((line.flops or 0 for curve in found.curves for line in curve), default=0)

    def draw(figure: "Figure") -> None:
        axes = figure.subplots(len(panels), 2, squeeze=False, sharex="col", sharey="row")
        for row, (label, (left, right)) in enumerate(zip(panels, axes, strict=True)):
            prefix, unit = si_prefix(most) if most else ("", 1.0)
            for number, (name, curve) in enumerate(zip(found.names, found.curves, strict=True)):
                colour = STAGE_COLOURS[number % len(STAGE_COLOURS)]
                trained = [(line, line.loss, line.loss_by_stage) for line in curve]
                held = [(line, line.held_out_loss, line.held_out_loss_by_stage) for line in curve]
                for losses, look in (
                    (trained, {"marker": ".", "label": printable(name)}),
                    (held, {"marker": ".", "linestyle": "--", "label": f"{printable(name)}, held out"}),
                ):
                    points = [
                        (line.iteration, line.flops, value)
                        for line, whole, by_stage in losses
                        if (value := whole if not row else _of_stage(by_stage, row - 1)) is not None
                    ]
                    if not points and losses is held:
                        continue
                    left.plot([point[0] for point in points], [point[2] for point in points], color=colour, **look)
                    priced = [(flops / unit, loss) for _, flops, loss in points if flops is not None]
                    right.plot([point[0] for point in priced], [point[1] for point in priced], color=colour, **look)
            left.set_ylabel(label)
            for each in (left, right):
                _axes(each)
            if row == len(panels) - 1:
                left.set_xlabel("iterations")
                right.set_xlabel(f"{prefix}FLOPs spent")
        handles, labels = axes[0, 0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside upper left", ncols=2, frameon=False)

    return drawn((10.0, 0.8 + 2.2 * len(panels)), kind, draw)


def _axes(axes: "Axes") -> None:
    plain(axes)
    logarithmic(axes)


def _stages(counts: Iterable[int]) -> range:
    """The stages that are told apart: none where no run has more than one."""
    most = max(counts, default=1)
    return range(most if most > 1 else 0)


def _of_stage(losses: Sequence[float | None], stage: int) -> float | None:
    """A stage's loss; the only stage of a run has that of the whole, and is no stage 0 of another."""
    return losses[stage] if stage < len(losses) > 1 else None


def comparison_page(found: "Comparison") -> str:
    """One page that loads nothing from elsewhere: tables, curves, and the contact sheets of each run."""
    from msdk.report.templates import inline, templates

    sheets = [
        (name, inline((Path(run.path) / run.samples).read_bytes()))
        for name, run in zip(found.names, found.runs, strict=True)
        if run.samples
    ]
    return (
        templates()
        .get_template("comparison.html")
        .render(
            title=" and ".join(short(name) for name in found.names),
            grids=comparison_grids(found),
            curved="Losses",
            curves=inline(curves_plot(found, "png")),
            sheets=sheets,
        )
    )


FORMATS = {
    ".html": "one page for a browser, with curves and samples, which loads nothing from elsewhere",
    ".json": "what --json prints",
    ".md": "Markdown tables",
    ".png": "the curves",
    ".svg": "the same as vectors",
}
"""What a comparison can be written as."""


def comparison_file(found: "Comparison", suffix: str) -> bytes:
    """The content of a file with a comparison.

    Raises:
        MsdkError: An unknown suffix, or a plot without matplotlib.
    """
    kind = suffix.lower()
    if kind in (".png", ".svg"):
        return curves_plot(found, kind.removeprefix("."))
    if kind == ".html":
        return comparison_page(found).encode()
    if kind == ".json":
        return (json.dumps(found.as_json(), indent=2) + "\n").encode()
    if kind == ".md":
        return "\n".join(grid.markdown() for grid in comparison_grids(found)).encode()
    known = ", ".join(f"{name} ({what})" for name, what in FORMATS.items())
    raise MsdkError(f"runs cannot be compared in '{suffix}' files.{nearest(kind, FORMATS)} Known: {known}.")
