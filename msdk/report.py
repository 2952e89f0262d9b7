"""Frozen results -> tables for a person: rich on a terminal, Markdown in a file.

Everything here reads the plain data that `--json` prints, so a saved budget or clustering can be shown again.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import attrs
from rich import box
from rich.table import Table

Json = Mapping[str, Any]


@attrs.frozen
class Grid:
    """A table before it is drawn: cells are text; columns from `numbers` on align right."""

    title: str
    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    notes: tuple[str, ...] = ()
    numbers: int = 1

    def rich(self) -> Table:
        """For a terminal."""
        table = Table(title=self.title, title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
        table.caption, table.caption_justify = "\n".join(self.notes) or None, "left"
        for index, name in enumerate(self.head):
            table.add_column(
                name, justify="left" if index < self.numbers else "right", overflow="fold", no_wrap=index == 0
            )
        for row in self.rows:
            table.add_row(*row)
        return table

    def markdown(self) -> str:
        """For a file."""
        lines = [
            f"| {' | '.join(self.head)} |",
            "|" + "".join(" --- |" if i < self.numbers else " ---: |" for i in range(len(self.head))),
        ]
        lines += [f"| {' | '.join(row)} |" for row in self.rows]
        notes = [f"\n{note}" for note in self.notes]
        return "\n".join([f"**{self.title}**\n", *lines, *notes]) + "\n"


MACS = {
    "exact": "MACs of convolutions, linear maps and attention (1 multiply-accumulate = 2 FLOPs)",
    "paper": "the paper's convention: Conv2d MACs + bias additions + Linear MACs, without attention and input pyramid",
    "fvcore": "fvcore's own total: MACs plus norm and upsampling operations, without fused attention",
}


def budget_grids(budgets: Sequence[Json]) -> list[Grid]:
    """One table that compares the recipes, then one per recipe with its stages."""
    return [comparison_grid(budgets), *(stages_grid(one) for one in budgets)]


def comparison_grid(budgets: Sequence[Json]) -> Grid:
    """Recipes side by side; ratios are to the first."""
    first = budgets[0]["equivalent_macs"]
    prefix, unit = si_prefix(max(one["equivalent_macs"]["length"] for one in budgets))
    rows: list[tuple[str, ...]] = []
    for one in budgets:
        active = [stage["params"]["active"] for stage in one["stages"]]
        macs, training = one["equivalent_macs"], one["training"]
        rows.append(
            (
                short(one["recipe"]) or one["title"],
                millions(one["params"]["total"]),
                " / ".join(millions(count) for count in active),
                scaled(macs["sampling"], unit) + ratio(macs["sampling"], first["sampling"]),
                scaled(macs["training"], unit) + ratio(macs["training"], first["training"]),
                "-" if training is None else f"{training['iterations']:,}",
                "-" if training is None else brief(training["paper_pflops"]),
                "-" if training is None else brief(training["total_flops"] / 1e15),
            )
        )
    head = (
        "recipe",
        "params M",
        "active M by stage",
        f"{prefix}MACs/call",
        f"{prefix}MACs/train image",
        "iterations",
        "PFLOPs, paper",
        "PFLOPs, train",
    )
    conventions = sorted({one["convention"] for one in budgets})
    notes = [f"{name}: {MACS[name]}." for name in conventions]
    notes.append("call: mean over the sampler's network calls. train image: mean over the training draws, forward.")
    notes.append("PFLOPs, paper: iterations x MACs/call, as the paper counts.")
    notes.append("PFLOPs, train: all images, 2 x (forward + backward).")
    if len(conventions) > 1:
        notes.append("The recipes ask for different conventions: compare them with --convention exact.")
    return Grid("Budgets side by side", head, tuple(rows), tuple(notes))


def stages_grid(one: Json) -> Grid:
    """One recipe, stage by stage."""
    prefix, unit = si_prefix(max(stage["macs"]["total"] for stage in one["stages"]))
    filters = any("conv_fir" in stage["macs"]["by_operator"] for stage in one["stages"])
    rows: list[tuple[str, ...]] = []
    for stage in one["stages"]:
        macs, weights = stage["macs"], stage["weights"]
        (t_low, t_high), (low, high) = stage["t"], stage["ratio"]
        row = (
            str(stage["index"]),
            f"{t_low:.4g} .. {t_high:.4g}",
            f"{low:.4g} .. {'inf' if high is None else f'{high:.4g}'}",
            f"{millions(stage['params']['encoder'])} + {millions(stage['params']['decoder'])}",
            f"{scaled(macs['encoder'], unit)} + {scaled(macs['decoder'], unit)}",
            scaled(macs["total"], unit),
            "-" if stage["calls"] is None else f"{stage['calls']}",
            percent(weights["sampling"]),
            percent(weights["training"]),
            percent(weights["length"]),
        )
        rows.append((*row, scaled(macs["by_operator"].get("conv_fir", 0), unit)) if filters else row)
    head = (
        "stage",
        "t",
        "ratio",
        "params M, enc + dec",
        f"{prefix}MACs, enc + dec",
        f"{prefix}MACs",
        "calls",
        "of calls",
        "of training",
        "of time",
    )
    macs, audit = one["equivalent_macs"], one["audit"]
    notes = [
        f"{prefix}MACs per image, convention {one['convention']}: {MACS[one['convention']]}.",
        f"mean {prefix}MACs weighted by calls {scaled(macs['sampling'], unit)}, by training "
        f"{scaled(macs['training'], unit)}, by time {scaled(macs['length'], unit)}; network calls per image: "
        f"{one['nfe'] if one['nfe'] is not None else '-'}.",
        f"second counter (torch), exact convention: {scaled(audit['second_counter_macs'], unit)} {prefix}MACs over all "
        f"stages, relative difference {audit['relative_difference']:.1e}.",
    ]
    guidance = one.get("guidance")
    if guidance and guidance["extra_calls"]:
        low, high = guidance["interval"] or (0, math.inf)
        where = "in all calls" if math.isinf(high) else f"for ratio in ({low:.4g}, {high:.4g}]"
        notes.append(
            f"guidance of weight {guidance['weight']:.4g} {where} evaluates the network with and without the class: "
            f"{guidance['extra_calls']} of the calls are its own."
        )
    if one["autoencoder"]:
        notes.append(_autoencoder_note(one["autoencoder"]))
    if one["uncounted"]:
        notes.append(f"NOT COUNTED: {', '.join(f'{op} x{times}' for op, times in one['uncounted'].items())}.")
    title = ": ".join(part for part in (short(one["recipe"]), one["title"]) if part)
    return Grid(title, (*head, "of which FIR") if filters else head, tuple(rows), tuple(notes))


def _autoencoder_note(costs: Json) -> str:
    prefix, unit = si_prefix(costs["decode_macs"])
    return (
        f"autoencoder, in no stage: {millions(costs['params'])} M parameters; {scaled(costs['encode_macs'], unit)} "
        f"{prefix}MACs to encode a training image, {scaled(costs['decode_macs'], unit)} to decode a sample."
    )


def clusters_grid(clusters: Json) -> Grid:
    """Edges by strategy."""
    rows = tuple(
        (
            one["name"],
            " / ".join(f"{edge:.4f}" for edge in one["edges_t"]),
            " / ".join(f"{edge:.4f}" for edge in one["edges_ratio"]),
            f"{one['seconds']:.1f}",
        )
        for one in clusters["strategies"]
    )
    data = clusters["data"]
    images = f", {data['images']:,} images" if "images" in data else ""
    title = f"Stage edges under {clusters['schedule']}; data {data['name']}{images}; seed {clusters['seed']}"
    notes = tuple(
        f"{one['name']}: {', '.join(f'{key} = {_brief(value)}' for key, value in one['settings'].items())}."
        for one in clusters["strategies"]
    )
    return Grid(title, ("strategy", "edges t", "edges ratio", "seconds"), rows, notes)


def calls_grid(calls: Sequence[Json]) -> Grid:
    """Every network call of a sampler."""
    rows = tuple(
        (str(i), str(c["step"]), f"{c['t']:.5g}", f"{c['ratio']:.5g}", str(c["stage"]), str(c["evaluations"]))
        for i, c in enumerate(calls)
    )
    return Grid("Network calls", ("call", "step", "t", "ratio", "stage", "evaluations"), rows)


def run_markdown(
    *, title: str, clusters: Json | None, budgets: Sequence[Json], training: Json, ledger: Json, sampling: Json
) -> str:
    """The report.md of a run folder."""
    own = budgets[-1]
    parts = [f"# {title}\n", "![samples](samples/grid.png)\n"]
    if clusters is not None:
        parts += ["## Stages\n", clusters_grid(clusters).markdown()]
    parts += ["## Budget\n", comparison_grid(budgets).markdown(), stages_grid(own).markdown()]
    stages = tuple(
        (
            str(index),
            f"{images:,}",
            percent(images / max(ledger["images"], 1)),
            scaled(macs, 1e12),
            "-" if loss is None else f"{loss:.4f}",
        )
        for index, (images, macs, loss) in enumerate(
            zip(ledger["images_by_stage"], ledger["forward_macs_by_stage"], training["loss_by_stage"], strict=True)
        )
    )
    predicted = ledger["predicted"]["total_flops"]
    notes = (
        f"{training['iterations']:,} iterations, {ledger['images']:,} images in {training['seconds']:.0f} s "
        f"({training['images_per_second']:.0f} images/s).",
        f"Spent {ledger['total_flops'] / 1e12:.4g} TFLOPs (forward + backward), predicted {predicted / 1e12:.4g}.",
    )
    head = ("stage", "images seen", "share", "forward TMACs", "last loss")
    parts += ["## Training\n", Grid("What each stage saw", head, stages, notes).markdown()]
    calls = " / ".join(str(stage["calls"]) for stage in own["stages"])
    parts += [
        "## Samples\n",
        f"{sampling['images']} images by {sampling['sampler']}, {sampling['steps']} steps, {own['nfe']} calls each "
        f"({calls} by stage), in {sampling['seconds']:.1f} s; "
        f"seeds {sampling['first_seed']} to {sampling['last_seed']}.\n",
    ]
    return "\n".join(parts)


def millions(count: float) -> str:
    return f"{count / 1e6:.4g}"


def si_prefix(largest: float) -> tuple[str, float]:
    """The prefix for a column of counts, and the count that it stands for."""
    return ("G", 1e9) if largest >= 1e9 else ("M", 1e6)


def scaled(count: float | None, unit: float) -> str:
    """A count in a unit, four significant digits."""
    return "-" if count is None else f"{count / unit:.4g}"


def brief(value: float) -> str:
    """Two decimals (three significant digits below 1), or separators for large numbers."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.2f}" if value >= 1 else f"{value:.3g}"


def short(recipe: str) -> str:
    """A recipe's file as a name for a table: "recipes/cifar10/dpm-unified.toml" is "cifar10/dpm-unified"."""
    return "/".join(recipe.removesuffix(".toml").split("/")[-2:])


def percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.1f} %"


def ratio(value: float | None, first: float | None) -> str:
    """How a figure compares with the first row's: " (106%)"."""
    return f" ({100 * value / first:.0f}%)" if value and first else ""


def _brief(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
