"""What a run did: its network calls, its report in Markdown, and how its recipe differs from another."""

import json
from collections.abc import Container, Sequence
from typing import TYPE_CHECKING

from msdk.recipe.quantities import written
from msdk.report.budgets import comparison_grid, stages_grid
from msdk.report.clusters import clusters_grid
from msdk.report.figures import Json, percent, scaled, short
from msdk.report.grid import Grid, markdown_text
from msdk.report.resources import beside_training
from msdk.report.scores import scores_grid

if TYPE_CHECKING:
    from msdk.budgeting import Budget
    from msdk.budgeting.ledger import Ledger
    from msdk.clustering import Clusters
    from msdk.evaluation import Scores


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


def run_markdown(
    *,
    title: str,
    clusters: "Clusters | None",
    budgets: "Sequence[Budget]",
    training: Json,
    ledger: "Ledger",
    sampling: Json,
    scores: "Sequence[Scores]",
    pictures: Container[str],
) -> str:
    """The report.md of a run folder, which has some of the `pictures` samples/grid.png and clustering.png."""
    own = budgets[-1]
    parts = [f"# {markdown_text(title)}\n"]
    parts += ["![samples](samples/grid.png)\n"] if "samples/grid.png" in pictures else []
    if clusters is not None:
        parts += ["## Stages\n", clusters_grid(clusters).markdown()]
        parts += ["![how the stages were found](clustering.png)\n"] if "clustering.png" in pictures else []
    parts += ["## Budget\n", comparison_grid(budgets).markdown(), stages_grid(own).markdown()]
    held = training["held_out_loss_by_stage"]
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
                training["loss_by_stage"],
                strict=True,
            )
        )
    )
    notes = (
        f"{training['iterations']:,} iterations, {ledger.images:,} images in {training['seconds']:.0f} s "
        f"({training['images_per_second']:.0f} images/s).",
        f"Spent {written(ledger.total_flops, 'FLOPs')}, predicted {written(ledger.predicted.total_flops, 'FLOPs')}: "
        "forward, backward and what is recomputed.",
        *beside_training(ledger),
    )
    head = ("stage", "images seen", "share", "expected", "forward TMACs", "last loss")
    head += () if held is None else ("held-out loss",)
    parts += ["## Training\n", Grid("What each stage saw", head, stages, notes).markdown()]
    calls = " / ".join(str(stage.calls) for stage in own.stages)
    parts += [
        "## Samples\n",
        f"{sampling['images']} images by {markdown_text(sampling['sampler'])}, {sampling['steps']} steps, "
        f"{own.nfe} calls each ({calls} by stage), in {sampling['seconds']:.1f} s; "
        f"seeds {sampling['first_seed']} to {sampling['last_seed']}.\n",
    ]
    if scores:
        parts += ["## Scores\n", *(scores_grid(each).markdown() for each in scores)]
    return "\n".join(parts)


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
