"""Several clusterings of one recipe side by side, as one table and one plot."""

import itertools
import math
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from msdk.errors import printable
from msdk.report.canvas import STAGE_COLOURS, drawn, plain
from msdk.report.figures import general
from msdk.report.grid import Grid

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from msdk.clustering.clusters import Clusters, Strategy

_ARXIV = re.compile(r"arXiv (\d{4}\.\d{4,5})")

HEAD = ("strategy", "stage", "up to t", "95 % of draws", "ratio", "log SNR", "images", "calls")


def strategies_grid(clusters: "Clusters", title: str) -> Grid:
    """A row per stage: where it ends on each clock, and what training and sampling give it; below, where all is from.

    Args:
        clusters: What `msdk cluster --compare` found.
        title: Of the table.
    """
    rows = [row for one in clusters.strategies for row in _rows(one)]
    notes = [
        "Under a strategy is its paper. Images are the share of the training images under training.noise, calls the "
        "network calls of the recipe's sampler."
    ]
    for one in clusters.strategies:
        settings = ", ".join(f"{key} = {general(value)}" for key, value in one.settings.items())
        said = [f"{settings}; {one.seconds:.1f} s", *one.notes, *([f"Source: {one.source}"] if one.source else [])]
        notes.append(f"{label(one)}: {'. '.join(each.rstrip('.') for each in said)}.")
    known = ", ".join(label(one) for one in clusters.strategies if one.cached)
    if known:
        notes.append(f"Found before, for the same data and settings: {known}; --no-cache finds edges anew.")
    for why in dict.fromkeys(clusters.skipped.values()):  # data that are not there keep several from running
        names = ", ".join(name for name, own in clusters.skipped.items() if own == why)
        notes.append(f"{names} did not run: {why.rstrip('.')}.")
    return Grid(title, HEAD, tuple(rows), tuple(notes))


def label(one: "Strategy") -> str:
    """What a strategy is called among others: those that look at a run may stand beside themselves."""
    return f"{one.name}, run" if one.settings.get("run") and one.name != "gradient" else one.name


def paper(one: "Strategy") -> str:
    """The shortest name of where a strategy is from."""
    found = _ARXIV.search(one.source)
    if one.source.startswith("ours"):
        return "ours"
    if found:
        return f"arXiv {found[1]}"
    return re.split(r"[,(;]", one.source)[0].strip()


def _rows(one: "Strategy") -> list[tuple[str, ...]]:
    stages = len(one.edges_t) + 1
    names = [label(one), paper(one), *[""] * stages][:stages]
    intervals = [f"{low:.3g}-{high:.3g}" for low, high in one.intervals_t or ()] or ["-"] * (stages - 1)
    ends = [
        (f"{t:.4g}", interval, f"{ratio:.4g}", f"{-2 * math.log(ratio):z.2f}")
        for t, interval, ratio in zip(one.edges_t, intervals, one.edges_ratio, strict=True)
    ]
    images = [f"{100 * share:.1f} %" for share in one.images_by_stage] or ["-"] * stages
    calls = [str(count) for count in one.calls_by_stage] or ["-"] * stages
    return [
        (name, str(stage), *end, *got)
        for stage, (name, end, got) in enumerate(
            zip(names, [*ends, ("end", "-", "-", "-")], zip(images, calls, strict=True), strict=True)
        )
    ]


def strategies_plot(clusters: "Clusters", kind: str) -> bytes:
    """A bar per strategy, cut where its stages end: over t, over the ratio, and by the share of training images.

    Args:
        clusters: What `msdk cluster --compare` found.
        kind: "png" or "svg". The same clustering gives the same bytes.

    Raises:
        PlotError: matplotlib is not installed.
    """
    strategies = clusters.strategies
    one_clock = all(one.edges_t == one.edges_ratio for one in strategies)  # of schedules whose time is the ratio
    columns = 2 if one_clock else 3

    def draw(figure: "Figure") -> None:
        axes = figure.subplots(1, columns, squeeze=False, sharey=True, width_ratios=[1.6, 1.6, 1][-columns:])[0]
        if not one_clock:
            edges = [edge for one in strategies for edge in one.edges_t]
            low, high = clusters.span_t or (min(edges), max(edges))
            for place, one in enumerate(strategies):
                _bar(axes[0], place, [low, *one.edges_t, high])
                _whiskers(axes[0], place, one.intervals_t or ())
            axes[0].set_xlim(low, high)
            axes[0].set_xlabel(f"t of {clusters.schedule}, with the intervals of 95 %")
        _ratios(axes[-2], strategies, intervals=one_clock)
        for place, one in enumerate(strategies):
            _bar(axes[-1], place, [0.0, *itertools.accumulate(100 * share for share in one.images_by_stage)])
        axes[-1].set_xlim(0, 100)
        axes[-1].set_xlabel("% of the training images")
        names = [f"{printable(label(one))}\n{printable(paper(one))}" for one in strategies]
        axes[0].set_yticks(range(len(strategies)), names, parse_math=False)
        axes[0].set_ylim(len(strategies) - 0.4, -0.6)
        for each in axes:
            plain(each)
            each.tick_params(axis="y", length=0)
        stages = max(len(one.edges_t) for one in strategies) + 1
        handles = [axes[0].barh(0, 0, color=_colour(stage), label=f"stage {stage}") for stage in range(stages)]
        figure.legend(handles=handles, loc="outside upper right", ncols=min(stages, 6), frameon=False)

    return drawn((4.0 + 3.0 * columns, 0.9 + 0.42 * len(strategies)), kind, draw)


def _ratios(axes: "Axes", strategies: "Sequence[Strategy]", *, intervals: bool) -> None:
    """Bars over the ratio, whose ends are open: a factor of 3 beyond the outermost edges."""
    edges = [edge for one in strategies for edge in one.edges_ratio]
    low, high = min(edges) / 3, max(edges) * 3
    axes.set_xscale("log")
    for place, one in enumerate(strategies):
        _bar(axes, place, [low, *one.edges_ratio, high])
        if intervals:
            _whiskers(axes, place, one.intervals_t or ())
    axes.set_xlim(low, high)
    axes.set_xlabel("ratio sigma / alpha" + (", with the intervals of 95 %" if intervals else ""))


def _bar(axes: "Axes", place: int, bounds: Sequence[float]) -> None:
    for stage, (low, high) in enumerate(itertools.pairwise(bounds)):
        axes.barh(place, high - low, 0.62, left=low, color=_colour(stage), edgecolor="white", linewidth=0.6)


def _whiskers(axes: "Axes", place: int, intervals: Sequence[tuple[float, float]]) -> None:
    for low, high in intervals:
        axes.plot([low, high], [place, place], color="black", linewidth=1.4, marker="|", markersize=5)


def _colour(stage: int) -> str:
    return STAGE_COLOURS[stage % len(STAGE_COLOURS)]
