"""Budgets as a plot: parameters and MACs by stage, and the sampler's calls, one row per recipe."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from msdk.errors import printable
from msdk.recipe.quantities import si_prefix, significant
from msdk.report.canvas import STAGE_COLOURS, drawn, plain
from msdk.report.figures import short

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from msdk.budgeting import Budget
    from msdk.budgeting.costs import StageMacs, StageParameters

ENCODER_COLOUR = "#a9b0b7"


def budgets_plot(budgets: Sequence["Budget"], kind: str) -> bytes:
    """Bars by stage, split into encoder and decoder, and the step -> stage strip of each recipe's sampler.

    Args:
        budgets: At least one, all recipes share their scales.
        kind: "png" or "svg". The same budgets give the same bytes.

    Raises:
        PlotError: matplotlib is not installed.
    """
    heights = [1.1 + 0.32 * len(one.stages) for one in budgets]
    most = max(stage.costs.total for one in budgets for stage in one.stages)
    highest = max((call.macs for one in budgets for call in one.trace), default=most)

    def draw(figure: "Figure") -> None:
        axes = figure.subplots(
            len(budgets), 3, squeeze=False, sharex="col", height_ratios=heights, width_ratios=[1, 1, 1.3]
        )
        for one, (params, macs, strip) in zip(budgets, axes, strict=True):
            _bars(params, [each.parameters for each in one.stages], 1e6, "parameters in use, millions")
            prefix, unit = si_prefix(most)
            _bars(macs, [each.costs for each in one.stages], unit, f"{prefix}MACs per network call ({one.convention})")
            _strip(strip, one, unit, f"{prefix}MACs per network call, from noise to image")
            strip.set_ylim(0, 1.2 * highest / unit)
            title = printable(short(one.recipe) or one.title or "denoiser")
            params.set_title(title, loc="left", fontweight="bold", parse_math=False)
        handles, labels = axes[0, 0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower left", ncols=2, frameon=False)

    return drawn((11.0, 0.6 + sum(heights)), kind, draw)


def _bars(axes: "Axes", stages: "Sequence[StageParameters | StageMacs]", unit: float, label: str) -> None:
    """One bar per stage, least noise on top: the encoder first, then the decoder."""
    places = list(range(len(stages)))
    encoder = [stage.encoder / unit for stage in stages]
    decoder = [stage.decoder / unit for stage in stages]
    colours = [STAGE_COLOURS[index % len(STAGE_COLOURS)] for index in places]
    axes.barh(places, encoder, 0.6, color=ENCODER_COLOUR, label="encoder")
    bars = axes.barh(places, decoder, 0.6, left=encoder, color=colours, label="decoder, in the colour of its stage")
    axes.bar_label(bars, [significant(low + high) for low, high in zip(encoder, decoder, strict=True)], padding=3)
    axes.set_yticks(places, [f"stage {index}" for index in places])
    axes.invert_yaxis()
    axes.margins(x=0.2)
    axes.set_xlabel(label)
    plain(axes)


def _strip(axes: "Axes", one: "Budget", unit: float, label: str) -> None:
    """Every network call of the sampler in order; its height is its cost, and each run of a stage has its number."""
    calls = one.trace
    heights = [call.macs / unit for call in calls]
    colours = [STAGE_COLOURS[call.stage % len(STAGE_COLOURS)] for call in calls]
    axes.bar(
        [(2 * index + 1) / (2 * len(calls)) for index in range(len(calls))],
        heights,
        0.9 / max(len(calls), 1),
        color=colours,
    )
    start = 0
    for index, call in enumerate(calls):
        if index + 1 == len(calls) or calls[index + 1].stage != call.stage:
            middle = (start + index + 1) / (2 * len(calls))
            count = index + 1 - start
            axes.annotate(f"{call.stage}: {count}", (middle, heights[index]), ha="center", va="bottom")
            start = index + 1
    axes.margins(x=0.02)
    axes.set_xticks([])
    axes.set_xlabel(f"{len(calls)} calls, stage: calls" if calls else "calls are not in this budget")
    axes.set_title(label, loc="left", fontsize="medium")
    plain(axes)
