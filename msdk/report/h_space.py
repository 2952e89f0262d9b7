"""How alike features are between noise levels, as tables and as a plot."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from msdk.errors import printable
from msdk.report.canvas import STAGE_COLOURS, drawn, plain
from msdk.report.figures import short
from msdk.report.grid import Grid

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from msdk.inspecting.spaces import HSpace, Space


def h_space_grids(found: "HSpace") -> list[Grid]:
    """Of each run by stages, where it has several; then all levels."""
    grids = [_stages(space) for space in found.spaces if len(space.stages) > 1]
    return [*grids, _levels(found)]


def _stages(space: "Space") -> Grid:
    stages = [[level for level in space.levels if level.stage == stage] for stage in range(len(space.stages))]
    rows = tuple(
        (
            f"{number}",
            f"{here[0].ratio:.3g}-{here[-1].ratio:.3g}" if here else "-",
            *map(_number, row),
        )
        for number, (here, row) in enumerate(zip(stages, space.stages, strict=True))
    )
    head = ("stage", "ratios", *(f"to {number}" for number in range(len(rows))))
    title = f"Features of the {space.encoder} encoder{'s' * (space.encoder == 'separate')} of {_named(space)}, by stage"
    return Grid(title, head, rows, ("Means of the CKA over all pairs of different levels of two stages.",), 2)


def _levels(found: "HSpace") -> Grid:
    names = [_named(space) for space in found.spaces]
    rows: list[tuple[str, ...]] = []
    for number, level in enumerate(found.spaces[0].levels):
        row = [f"{level.ratio:.4g}"]
        for space in found.spaces:
            same = space.similarity[number]
            after = same[number + 1] if number + 1 < len(same) else None
            row += [str(space.levels[number].stage), _number(after), _number(same[0])]
        rows.append((*row, *(_number(value) for value in found.across[number : number + 1])))
    more = ("both",) if found.across else ()
    head = ("ratio", *(("stage", "next", "first") * len(names)), *more)
    kind = "held-out images" if found.held_out else "images that train"
    notes = [
        "CKA of the encoder's deepest features: 1 is the same up to turns and scale, 0 what chance gives. next: to the "
        "level with more noise; first: to the one with the least.",
        f"{found.images:,} {kind}, with the same noise at all levels.",
    ]
    if found.across:
        notes[0] += f" These three are of {names[0]}, then of {names[1]}; both: between the two runs."
    sizes = " and ".join(
        ", ".join(" x ".join(map(str, size)) for size in space.sizes or (space.features,)) for space in found.spaces
    )
    title = f"h-space of {' beside '.join(names)}: {sizes} features of an image"
    return Grid(title, head, tuple(rows), tuple(notes))


def _named(space: "Space") -> str:
    return f"{short(space.run)} at {space.checkpoint:,}"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def h_space_plot(found: "HSpace", kind: str = "png") -> bytes:
    """The similarity of all levels as a picture of each run, and of two runs to each other as a line.

    Args:
        found: What `msdk inspect h-space` found.
        kind: "png" or "svg". The same finding gives the same bytes.

    Raises:
        PlotError: matplotlib is not installed.
    """
    columns = len(found.spaces) + bool(found.across)

    def draw(figure: "Figure") -> None:
        places: Sequence[Axes] = figure.subplots(1, columns, squeeze=False)[0]
        for axes, space in zip(places, found.spaces, strict=False):
            _square(figure, axes, space)
        if found.across:
            _line(places[-1], found)

    return drawn((4.1 * columns + 0.4, 3.9), kind, draw)


def _square(figure: "Figure", axes: "Axes", space: "Space") -> None:
    """Least noise at the lower left; lines where stages end."""
    shown = axes.imshow(space.similarity, vmin=0, vmax=1, cmap="viridis", origin="lower", interpolation="nearest")
    figure.colorbar(shown, ax=axes, shrink=0.8, label="CKA")
    pairs = zip(space.levels, space.levels[1:], strict=False)
    for number, (here, after) in enumerate(pairs):
        if here.stage != after.stage:
            axes.axvline(number + 0.5, color="white", linewidth=1.2)
            axes.axhline(number + 0.5, color="white", linewidth=1.2)
    places = range(0, len(space.levels), max(1, -(-len(space.levels) // 6)))
    labels = [f"{space.levels[place].ratio:.2g}" for place in places]
    axes.set_xticks(list(places), labels)
    axes.set_yticks(list(places), labels)
    axes.set_xlabel("ratio sigma / alpha, more noise to the right")
    title = f"{_named(space)}\n{space.encoder} encoder{'s' * (space.encoder == 'separate')}"
    axes.set_title(printable(title, keep="\n"), loc="left", fontsize="medium", parse_math=False)


def _line(axes: "Axes", found: "HSpace") -> None:
    ratios = [level.ratio for level in found.spaces[0].levels]
    axes.plot(ratios, found.across, "o-", color=STAGE_COLOURS[0], markersize=3, linewidth=1.5)
    axes.set_xscale("log")
    axes.set_ylim(min(0.0, *found.across), 1.02)
    axes.set_xlabel("ratio sigma / alpha")
    axes.set_ylabel("CKA between the two runs")
    axes.set_title("the same images and noise in both", loc="left", fontsize="medium")
    plain(axes)
