"""Frozen results -> tables for a person: rich on a terminal, Markdown in a file.

Everything here reads the plain data that `--json` prints, so a saved budget or clustering can be shown again.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import attrs
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
        table = Table(title=self.title, title_justify="left", caption="\n".join(self.notes) or None)
        table.caption_justify = "left"
        for index, name in enumerate(self.head):
            table.add_column(name, justify="left" if index < self.numbers else "right")
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
    return [_comparison(budgets), *(_stages(one) for one in budgets)]


def _comparison(budgets: Sequence[Json]) -> Grid:
    first = budgets[0]
    rows: list[tuple[str, ...]] = []
    for one in budgets:
        active = [stage["params"]["active"] for stage in one["stages"]]
        macs, training = one["equivalent_macs"], one["training"]
        rows.append(
            (
                one["recipe"] or one["title"],
                str(len(one["stages"])),
                millions(one["params"]["total"]),
                " / ".join(millions(count) for count in active),
                giga(macs["sampling"]) + ratio(macs["sampling"], first["equivalent_macs"]["sampling"]),
                giga(macs["training"]) + ratio(macs["training"], first["equivalent_macs"]["training"]),
                "-" if training is None else f"{training['iterations']:,}",
                "-" if training is None else f"{training['paper_pflops']:.3g}",
                "-" if training is None else f"{training['total_flops'] / 1e15:.3g}",
            )
        )
    head = (
        "recipe",
        "stages",
        "params M",
        "active M by stage",
        "GMACs/call, sampling",
        "GMACs/image, training",
        "iterations",
        "paper PFLOPs",
        "training PFLOPs",
    )
    conventions = sorted({one["convention"] for one in budgets})
    notes = [f"{name}: {MACS[name]}." for name in conventions]
    notes.append(
        "paper PFLOPs: iterations x GMACs/call, as the paper's Table 2. training PFLOPs: 2 x (forward + backward)."
    )
    if len(conventions) > 1:
        notes.append("The recipes ask for different conventions: compare them with --convention exact.")
    return Grid("Budgets side by side", head, tuple(rows), tuple(notes))


def _stages(one: Json) -> Grid:
    rows: list[tuple[str, ...]] = []
    for stage in one["stages"]:
        macs, weights = stage["macs"], stage["weights"]
        (t_low, t_high), (low, high) = stage["t"], stage["ratio"]
        rows.append(
            (
                str(stage["index"]),
                f"{t_low:.4g} .. {t_high:.4g}",
                f"{low:.4g} .. {'inf' if high is None else f'{high:.4g}'}",
                millions(stage["params"]["encoder"]),
                millions(stage["params"]["decoder"]),
                giga(macs["encoder"]),
                giga(macs["decoder"]),
                giga(macs["total"]),
                giga(macs["by_operator"].get("conv_fir", 0)),
                "-" if stage["calls"] is None else f"{stage['calls']} ({percent(weights['sampling'])})",
                percent(weights["training"]),
                percent(weights["length"]),
            )
        )
    head = (
        "stage",
        "t",
        "ratio",
        "encoder M",
        "decoder M",
        "encoder GMACs",
        "decoder GMACs",
        "GMACs",
        "of which FIR",
        "calls",
        "training",
        "length",
    )
    macs, audit = one["equivalent_macs"], one["audit"]
    notes = [
        f"GMACs per image, convention {one['convention']}: {MACS[one['convention']]}.",
        f"mean GMACs under sampling {giga(macs['sampling'])}, training {giga(macs['training'])}, "
        f"length {giga(macs['length'])}; network calls per image: {one['nfe'] if one['nfe'] is not None else '-'}.",
        f"second counter (torch): {giga(audit['second_counter_macs'])} GMACs over all stages, relative difference "
        f"{audit['relative_difference']:.1e}.",
    ]
    if one["uncounted"]:
        notes.append(f"NOT COUNTED: {', '.join(f'{op} x{times}' for op, times in one['uncounted'].items())}.")
    name = one["recipe"] or one["title"]
    return Grid(f"{name}: {one['title']}" if one["title"] and one["recipe"] else name, head, tuple(rows), tuple(notes))


def clusters_grid(clusters: Json) -> Grid:
    """Edges by strategy."""
    rows = tuple(
        (
            one["name"],
            " / ".join(f"{edge:.4f}" for edge in one["edges_t"]),
            " / ".join(f"{edge:.4f}" for edge in one["edges_ratio"]),
            f"{one['seconds']:.1f}",
            ", ".join(f"{key} = {_brief(value)}" for key, value in one["settings"].items()),
        )
        for one in clusters["strategies"]
    )
    data = clusters["data"]
    images = f", {data['images']:,} images" if "images" in data else ""
    title = f"Stage edges under {clusters['schedule']}; data {data['name']}{images}; seed {clusters['seed']}"
    return Grid(title, ("strategy", "edges t", "edges ratio", "seconds", "settings"), rows, numbers=5)


def calls_grid(calls: Sequence[Json]) -> Grid:
    """Every network call of a sampler."""
    rows = tuple(
        (str(i), str(c["step"]), f"{c['t']:.5g}", f"{c['ratio']:.5g}", str(c["stage"])) for i, c in enumerate(calls)
    )
    return Grid("Network calls", ("call", "step", "t", "ratio", "stage"), rows)


def run_markdown(
    *, title: str, clusters: Json | None, budgets: Sequence[Json], training: Json, ledger: Json, sampling: Json
) -> str:
    """The report.md of a run folder."""
    own = budgets[-1]
    parts = [f"# {title}\n", "![samples](samples/grid.png)\n"]
    if clusters is not None:
        parts += ["## Stages\n", clusters_grid(clusters).markdown()]
    parts += ["## Budget\n", *(grid.markdown() + "\n" for grid in budget_grids(budgets))]
    stages = tuple(
        (
            str(index),
            f"{images:,}",
            percent(images / max(ledger["images"], 1)),
            giga(macs),
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
    head = ("stage", "images seen", "share", "forward GMACs", "last loss")
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
    return f"{count / 1e6:.3f}"


def giga(macs: float | None) -> str:
    """MACs in units of 1e9, four significant digits."""
    return "-" if macs is None else f"{macs / 1e9:.4g}"


def percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.1f} %"


def ratio(value: float | None, first: float | None) -> str:
    """How a figure compares with the first row's: " (106 %)"."""
    return f" ({100 * value / first:.0f} %)" if value and first else ""


def _brief(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
