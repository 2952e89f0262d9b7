"""What a run did: its network calls, its report in Markdown, and how its recipe differs from another."""

import json
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import attrs

from msdk.errors import printable
from msdk.recipe.quantities import written
from msdk.report.budgets import comparison_grid, stages_grid
from msdk.report.canvas import STAGE_COLOURS, drawn, logarithmic, plain
from msdk.report.clusters import clusters_grid
from msdk.report.figures import Json, percent, scaled, short
from msdk.report.grid import Grid, markdown_text
from msdk.report.resources import beside_training, spent_grid
from msdk.report.scores import scores_grid, spread_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from msdk.browsing import Line
    from msdk.budgeting import Budget
    from msdk.budgeting.ledger import Ledger
    from msdk.clustering import Clusters
    from msdk.evaluation import Scores


@attrs.frozen(kw_only=True, eq=False)
class RunReport:
    """What `msdk run` tells of a run when it is done.

    Attributes:
        title: Of its recipe.
        budgets: Those of recipes to compare, the run's own last.
        ledger: What training spent.
        clusters: How its stages were found; None where they were given.
        iterations: Done.
        seconds: They took.
        loss_by_stage: The last one; None where a stage saw no image.
        held_out_loss_by_stage: Likewise, of the last look; None where there was none.
        lines: Of metrics.jsonl.
        sampling: `images`, `sampler`, `steps`, `seconds`, `first_seed` and `last_seed` of the samples.
        scores: Evaluations.
        settings: The text of its recipe.
        pictures: Those of samples/grid.png, losses.png and clustering.png that there are, with their content.
    """

    title: str
    budgets: "Sequence[Budget]"
    ledger: "Ledger"
    clusters: "Clusters | None"
    iterations: int
    seconds: float
    loss_by_stage: Sequence[float | None]
    held_out_loss_by_stage: Sequence[float | None] | None
    lines: "Sequence[Line]"
    sampling: Json
    scores: "Sequence[Scores]"
    settings: str
    pictures: Mapping[str, bytes]


def calls_grid(calls: Sequence[Json]) -> Grid:
    """Every network call of a sampler."""
    rows = tuple(
        (
            str(i),
            str(c["step"]),
            f"{c['t']:.5g}",
            f"{c['ratio']:.5g}",
            str(c["stage"]),
            str(c["evaluations"]),
            "-" if c["macs"] is None else written(c["macs"], "MACs"),
        )
        for i, c in enumerate(calls)
    )
    whole = None if any(c["macs"] is None for c in calls) else written(sum(c["macs"] for c in calls), "MACs")
    notes = () if whole is None else (f"{whole} for an image, convention exact.",)
    return Grid("Network calls", ("call", "step", "t", "ratio", "stage", "evaluations", "cost"), rows, notes)


def run_markdown(told: RunReport) -> str:
    """The report.md of a run folder."""
    parts = [f"# {markdown_text(told.title)}\n", f"{markdown_text(verdict(told))}\n"]
    parts += ["![samples](samples/grid.png)\n"] if "samples/grid.png" in told.pictures else []
    parts += [f"{markdown_text(sampled(told))}\n", "## Losses\n"]
    parts += ["![losses by stage](losses.png)\n"] if "losses.png" in told.pictures else []
    parts += [seen_grid(told).markdown()]
    if told.clusters is not None:
        parts += ["## Stages\n", clusters_grid(told.clusters).markdown()]
        parts += ["![how the stages were found](clustering.png)\n"] if "clustering.png" in told.pictures else []
    if told.scores:
        parts += ["## Scores\n", *(scores_grid(each).markdown() for each in told.scores)]
    parts += ["## Budget\n", comparison_grid(told.budgets).markdown(), stages_grid(told.budgets[-1]).markdown()]
    parts += ["## Ledger\n", spent_grid(told.ledger, "Spent and predicted").markdown()]
    fence = "`" * max([3, *(1 + len(run) for run in re.findall("`+", told.settings))])
    parts += ["## Settings\n", f"{fence}toml\n{printable(told.settings.rstrip(), keep=chr(10) + chr(9))}\n{fence}\n"]
    return "\n".join(parts)


def verdict(told: RunReport) -> str:
    """What a run came to, in one sentence."""
    ledger = told.ledger
    spent, predicted = ledger.total_flops, ledger.predicted.total_flops
    if not predicted:
        like = "of which nothing was predicted"
    elif abs(spent / predicted - 1) < 0.0005:
        like = "as predicted"
    else:
        like = f"{percent(abs(spent / predicted - 1))} {'more' if spent > predicted else 'less'} than predicted"
    begun = f"{told.iterations:,} iterations on {ledger.images:,} images spent {written(spent, 'FLOPs')}, {like}"
    judged = [each for each in told.scores if each.images.drawn is not None and each.scores]
    if not judged:
        return f"{begun}, and how good its images are was not measured: there is no [evaluation] in its recipe."
    newest = max(judged, key=lambda each: (each.images.checkpoint, each.name))
    score = newest.scores[0]
    of = f"{score.images:,} images of iteration {newest.images.checkpoint:,}"
    sure = (
        f"with a spread of {spread_of(score)} over {len(score.ranges)} ranges of seeds"
        if len(score.ranges) > 1
        else "of one range of seeds, which is no claim"
    )
    return f"{begun}, and its {score.name} is {score.value:.4g} ({score.better} is better) of {of}, {sure}."


def sampled(told: RunReport) -> str:
    """How the samples were drawn, in one sentence."""
    own, drawn = told.budgets[-1], told.sampling
    calls = " / ".join(str(stage.calls) for stage in own.stages)
    return (
        f"{drawn['images']} images by {drawn['sampler']}, {drawn['steps']} steps, {own.nfe} calls each ({calls} by "
        f"stage), in {drawn['seconds']:.1f} s; seeds {drawn['first_seed']} to {drawn['last_seed']}."
    )


def seen_grid(told: RunReport) -> Grid:
    """What each stage saw, what it took, and its last losses."""
    ledger, held = told.ledger, told.held_out_loss_by_stage
    stages = tuple(
        (
            str(index),
            f"{images:,}",
            percent(images / max(ledger.images, 1)),
            percent(expected / max(ledger.predicted.images, 1)),
            scaled(macs, 1e12),
            "-" if loss is None else f"{loss:.4f}",
            *(() if held is None else ("-" if held[index] is None else f"{held[index]:.4f}",)),
        )
        for index, (images, expected, macs, loss) in enumerate(
            zip(
                ledger.images_by_stage,
                ledger.predicted.images_by_stage,
                ledger.forward_macs_by_stage,
                told.loss_by_stage,
                strict=True,
            )
        )
    )
    notes = (
        f"{told.iterations:,} iterations, {ledger.images:,} images in {told.seconds:.0f} s "
        f"({ledger.images / max(told.seconds, 1e-9):.0f} images/s).",
        f"Spent {written(ledger.total_flops, 'FLOPs')}, predicted {written(ledger.predicted.total_flops, 'FLOPs')}: "
        "forward, backward and what is recomputed.",
        *beside_training(ledger),
    )
    head = ("stage", "images seen", "share", "expected", "forward TMACs", "last loss")
    head += () if held is None else ("held-out loss",)
    return Grid("What each stage saw", head, stages, notes)


def losses_plot(lines: "Sequence[Line]", kind: str) -> bytes:
    """Losses of each stage against iterations; those on held-out images are dashed.

    Args:
        lines: Of metrics.jsonl.
        kind: "png" or "svg".

    Raises:
        PlotError: matplotlib is not installed.
    """

    def draw(figure: "Figure") -> None:
        axes = figure.subplots()
        for stage in range(max((len(line.loss_by_stage) for line in lines), default=0)):
            colour = STAGE_COLOURS[stage % len(STAGE_COLOURS)]
            seen = [(line.iteration, line.loss_by_stage[stage]) for line in lines]
            held = [
                (line.iteration, line.held_out_loss_by_stage[stage]) for line in lines if line.held_out_loss_by_stage
            ]
            for points, style, label in ((seen, "-", f"stage {stage}"), (held, "--", f"stage {stage}, held out")):
                there = [(at, loss) for at, loss in points if loss is not None]
                if there:
                    at, losses = zip(*there, strict=True)
                    axes.plot(at, losses, color=colour, marker=".", linestyle=style, label=label)
        plain(axes)
        logarithmic(axes)
        axes.set_xlabel("iterations")
        axes.set_ylabel("loss")
        figure.legend(*axes.get_legend_handles_labels(), loc="outside upper left", ncols=3, frameon=False)

    return drawn((7.2, 3.4), kind, draw)


def diff_grid(a: str, b: str, differences: Sequence[Json]) -> Grid:
    """The keys on which recipe b differs from recipe a."""
    rows = tuple(
        (one["path"], setting(one["a"], default=one["a_default"]), setting(one["b"], default=one["b_default"]))
        for one in differences
    )
    notes = (f"{len(rows)} key(s) differ. (default): what the key has when nobody sets it. -: no such key.",)
    names = (short(a), short(b)) if short(a) != short(b) else (a, b)
    return Grid("Recipes, key by key", ("key", *names), rows, notes if rows else ("The recipes say the same.",), 3)


def setting(value: object, *, default: bool) -> str:
    """A value as a recipe writes it, with a mark where it is the default of its key."""
    if value is None:
        return "-"
    return json.dumps(value, ensure_ascii=False) + (" (default)" if default else "")
