"""Clusterings as tables, sentences and a plot."""

import itertools
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from msdk.errors import printable
from msdk.report.canvas import STAGE_COLOURS, drawn, plain
from msdk.report.figures import general, short
from msdk.report.grid import Grid
from msdk.report.strategies import strategies_grid, strategies_plot

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from msdk.clustering.clusters import Clusters, Strategy

CURVES = {
    "to_clean": "S to clean data at t (dots: draws)",
    "from_clean": "mean S to clean data over all draws at smaller t",
    "to_noise": "S to pure noise at t",
    "from_noise": "mean S to pure noise over all draws at larger t",
    "share": "share of the error up to t",
    "compared": "value compared",
    "drawn": "share of the training images up to t",
    "monitor": "monitor of the velocity (dots: draws)",
}
"""What curves mean; those that are not here are not drawn."""

DRAWS = {"to_clean": "from_clean", "to_noise": "from_noise"}
"""Curves that scatter, as each value comes from one draw -> their running mean, which a strategy compares.

A running mean lies far from the draws around it, so it is dashed, and a line follows the draws themselves.
"""


def clusters_grid(clusters: "Clusters") -> Grid:
    """Edges by strategy; of several, see `msdk.report.strategies`."""
    title = f"Stage edges under {clusters.schedule}; data {_data(clusters)}; seed {clusters.seed}"
    if len(clusters.strategies) > 1:
        return strategies_grid(clusters, title)
    rows = tuple(
        (
            one.name,
            _slashed(one.edges_t),
            " / ".join(f"{low:.3f}-{high:.3f}" for low, high in one.intervals_t or ()) or "-",
            _slashed(one.edges_ratio),
            f"{one.seconds:.1f}",
        )
        for one in clusters.strategies
    )
    notes = [
        f"{one.name}: {', '.join(f'{key} = {general(value)}' for key, value in one.settings.items())}."
        + "".join(f" {note}" for note in one.notes)
        for one in clusters.strategies
    ]
    known = ", ".join(one.name for one in clusters.strategies if one.cached)
    if known:
        notes.append(f"Found before, for the same data and settings: {known}; --no-cache finds edges anew.")
    notes += [f"{name} did not run: {why}." for name, why in clusters.skipped.items()]
    return Grid(title, ("strategy", "edges t", "95 % of draws", "edges ratio", "seconds"), rows, tuple(notes))


def clusters_lines(clusters: "Clusters", path: str) -> list[str]:
    """Where the edges of an artefact with one strategy come from, for a recipe that points to it."""
    (one,) = clusters.strategies
    settings = ", ".join(f"{key} = {general(value)}" for key, value in one.settings.items())
    digest = clusters.data.get("sha256")
    versions = ", ".join(f"{name} {version}" for name, version in clusters.versions.items())
    lines = [
        f"The stages are those of {path}, found by {one.name} ({settings}), seed {clusters.seed}:",
        f"t = {_slashed(one.edges_t)} of {clusters.schedule}, that is a ratio of {_slashed(one.edges_ratio)}.",
    ]
    if one.intervals_t:
        ends = " and ".join(f"{low:.4f} to {high:.4f}" for low, high in one.intervals_t)
        lines.append(f"95 % of other draws lie in {ends}.")
    lines.append(f"Data: {_data(clusters)}" + (f", SHA-256 {digest[:16]}..." if digest else "") + f"; {versions}.")
    return lines


def _slashed(numbers: Sequence[float]) -> str:
    return " / ".join(f"{number:.4f}" for number in numbers)


def _data(clusters: "Clusters") -> str:
    data = clusters.data
    kind = "latents" if "autoencoder" in data else "images"
    place = f" {short(str(data['path']))}" if "path" in data else ""
    return f"{data['name']}{place}" + (f", {data['images']:,} {kind}" if "images" in data else "")


def clusters_plot(clusters: "Clusters", kind: str = "png") -> bytes:
    """The curves that a strategy looked at, its edges with their intervals, and its matrix.

    Of several strategies the stages alone, see `msdk.report.strategies`.

    Args:
        clusters: What `msdk cluster` found.
        kind: "png" or "svg". The same clustering gives the same bytes.

    Raises:
        PlotError: matplotlib is not installed.
    """
    strategies = clusters.strategies
    if len(strategies) > 1:
        return strategies_plot(clusters, kind)
    columns = 2 if any(one.matrices for one in strategies) else 1

    def draw(figure: "Figure") -> None:
        axes = figure.subplots(len(strategies), columns, squeeze=False, width_ratios=[2.2, 1][:columns])
        for one, row in zip(strategies, axes, strict=True):
            _curves(row[0], one, clusters.schedule)
            for place in row[1:]:
                _matrix(place, one)

    return drawn((6.6 + 3.4 * (columns - 1), 0.3 + 3.1 * len(strategies)), kind, draw)


MONITOR = "monitor"
"""The curve whose means in bins, with their intervals of 95 %, are drawn on a logarithmic axis."""


def _curves(axes: "Axes", one: "Strategy", schedule: str) -> None:
    """Curves over time between the edges, and the stages as a band above."""
    times, edges = one.curves.get("t", []), one.edges_t
    shown = [name for name in CURVES if name in one.curves]
    for number, name in enumerate(name for name in shown if name not in DRAWS.values()):
        colour, mean = STAGE_COLOURS[::-1][number % len(STAGE_COLOURS)], DRAWS.get(name)
        values = one.curves[name]
        if name == MONITOR:
            _monitor(axes, one, colour)
            continue
        if mean is None:
            axes.plot(times, values, color=colour, linewidth=1.8, label=CURVES[name])
            continue
        axes.plot(times, values, ".", color=colour, markersize=2, alpha=0.2, rasterized=True)
        axes.plot(*_local(times, values), color=colour, linewidth=1.2, label=CURVES[name])
        if mean in one.curves:
            label = CURVES[mean]
            axes.plot(times, one.curves[mean], color=colour, linewidth=1.8, linestyle="--", label=label)
    if not shown:
        axes.plot(times, [0.5] * len(times), "|", color="black", markersize=12, label="times looked at")
        axes.set_ylim(0, 1)
        axes.set_yticks([])
    if "alpha" in one.settings and "from_clean" in shown:
        alpha = one.settings["alpha"]
        label = f"alpha = {general(alpha)}: where a mean meets it a stage ends"
        axes.axhline(alpha, color="black", linewidth=0.7, linestyle=":", label=label)
    for edge in edges:
        axes.axvline(edge, color="black", linewidth=1)
    for low, high in one.intervals_t or ():
        axes.axvspan(low, high, color="black", alpha=0.15, linewidth=0)
    first, last = min([*times, *edges]), max([*times, *edges])
    margin = 0.02 * (last - first)
    bounds = [first - margin, *edges, last + margin]
    for number, (low, high) in enumerate(itertools.pairwise(bounds)):
        colour = STAGE_COLOURS[number % len(STAGE_COLOURS)]
        band = axes.get_xaxis_transform()
        axes.fill_between([low, high], 1.0, 1.04, color=colour, transform=band, clip_on=False, linewidth=0)
        axes.text((low + high) / 2, 1.06, f"stage {number}", transform=band, ha="center", fontsize="small")
    axes.set_xlim(bounds[0], bounds[-1])
    title = printable(f"{one.name}: t = {_slashed(edges)}")
    axes.set_title(title, loc="left", fontweight="bold", pad=18, parse_math=False)
    axes.set_xlabel(f"t of {schedule}")
    if axes.get_legend_handles_labels()[0]:
        axes.legend(fontsize="small", loc="upper left", bbox_to_anchor=(0, -0.17), ncols=2, frameon=False)
    plain(axes)


def _monitor(axes: "Axes", one: "Strategy", colour: str) -> None:
    """Draws, their means in bins of time, and the intervals of these."""
    times, curves = one.curves["t"], one.curves
    axes.set_yscale("log", nonpositive="mask")
    axes.plot(
        times, curves[MONITOR], ".", color=colour, markersize=2, alpha=0.3, rasterized=True, label=CURVES[MONITOR]
    )
    if "monitor_mean" in curves:
        axes.plot(times, curves["monitor_mean"], color="black", linewidth=1.2, label="mean in a bin of t")
        ends = curves["monitor_low"], curves["monitor_high"]
        axes.fill_between(times, *ends, color=colour, alpha=0.4, linewidth=0, label="95 % of other draws")


def _local(times: Sequence[float], values: Sequence[float], points: int = 50) -> tuple[list[float], list[float]]:
    """Mean time and mean value of every so many draws in turn, which follows them where they scatter."""
    pairs = sorted(zip(times, values, strict=True))
    size = max(1, math.ceil(len(pairs) / points))
    groups = [pairs[start : start + size] for start in range(0, len(pairs), size)]
    return (
        [sum(time for time, _ in group) / len(group) for group in groups],
        [sum(value for _, value in group) / len(group) for group in groups],
    )


def _matrix(axes: "Axes", one: "Strategy") -> None:
    """The first matrix of a strategy as a map, with its stages as squares."""
    if not one.matrices:
        axes.set_axis_off()
        return
    name, rows = next(iter(one.matrices.items()))
    times = one.curves["t"]
    low, high = times[0], times[-1]
    image = axes.imshow(rows, origin="lower", extent=(low, high, low, high), cmap="viridis")
    bounds = [low, *one.edges_t, high]
    for start, end in itertools.pairwise(bounds):
        axes.plot([start, end, end, start, start], [start, start, end, end, start], color="white", linewidth=1.2)
    figure = axes.get_figure()
    if figure is not None:
        figure.colorbar(image, ax=axes, shrink=0.8)
    axes.set_title(printable(f"{name} of t and t'"), loc="left", pad=18, parse_math=False)
