"""Budgets as one HTML page that loads nothing from elsewhere.

The page is a template beside this file, with its style and its script written into it. All figures are computed and
worded here; the script only chooses what is shown, and without it everything is.
"""

import itertools
import math
import typing
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import attrs
from markupsafe import Markup

from msdk.recipe.quantities import prefix_of, significant, written
from msdk.report.budgets import MACS, accounts_apart
from msdk.report.clusters import clusters_grid
from msdk.report.figures import Json, apart, percent, planned_on, short
from msdk.report.plans import plan_grids
from msdk.report.resources import beside_training
from msdk.report.rows import of_stage
from msdk.report.runs import RunReport, sampled, seen_grid, setting, verdict
from msdk.report.scores import scores_grid
from msdk.report.templates import inline, templates

if TYPE_CHECKING:
    from msdk.budgeting import Budget, StageCosts
    from msdk.budgeting.costs import CallCosts
    from msdk.budgeting.ledger import Ledger
    from msdk.budgeting.limits import Limit
    from msdk.budgeting.requested import Memory

SHADES = 6
"""Colours of stages in the style sheet; further stages begin again, and every one is labelled by its number."""

LARGEST_SHEET = 4_000_000
"""Bytes of a contact sheet that a page may hold."""

LONGEST_STRIP = 240
"""More network calls than this are drawn as one cell per run of like calls."""


def budgets_page(
    budgets: "Sequence[Budget]",
    *,
    diffs: Sequence[Sequence[Json]] = (),
    ledger: "Ledger | None" = None,
    run: "RunReport | None" = None,
) -> str:
    """One page that compares budgets and explains each of them.

    Args:
        budgets: At least one; ratios are to the first.
        diffs: How each recipe but the first differs from the first: objects of `msdk recipe diff --json`.
        ledger: Of a run of the last recipe.
        run: What else there is to tell of that run.

    Returns:
        HTML, all text escaped. Keys that a budget does not have leave their part of the page out.
    """
    environment = templates()
    flops = all(one.convention == "exact" for one in budgets)
    filters: dict[str, Callable[..., object]] = {
        "amount": lambda value: figure(value, ""),
        "cost": lambda value: _cost(value, flops=flops),
        "macs": lambda value: figure(value, "MACs"),
        "flops": lambda value: figure(value, "FLOPs"),
        "hours": lambda value: _exactly(value, f"{significant(value)} h"),
        "bytes": lambda value: _exactly(value, written(value, "B")),
        "rate": lambda value: _exactly(value, significant(value)),
        "share": lambda value: _share(value),
        "number": lambda value: _number(value) if value is None else _exactly(value, _number(value)),
        "setting": setting,
    }
    environment.filters.update(typing.cast("dict[str, Any]", filters))
    names = _names(budgets)
    metrics = _metrics(budgets)
    longest = max(stage.costs.total for one in budgets for stage in one.stages)
    largest = max(stage.parameters.active for one in budgets for stage in one.stages)
    return environment.get_template("page.html").render(
        budgets=budgets,
        names=names,
        has_flops=flops,
        metrics=metrics,
        recipes=[_recipe(index, one, longest, largest) for index, one in enumerate(budgets)],
        differs=[_where_accounts_differ(name, one, budgets[0]) for name, one in zip(names, budgets, strict=True)],
        diffs=list(zip(names[1:], diffs, strict=False)),
        ledger=ledger and _ledger(ledger),
        run=run and _run(run),
        conventions={one.convention: MACS[one.convention] for one in budgets},
        shades=SHADES,
    )


def _run(told: RunReport) -> dict[str, object]:
    """What stands before the budgets. A contact sheet of many megabytes stays beside the page."""
    sheet, clusters = told.pictures.get("samples/grid.png", b""), told.clusters
    pictures = {name: inline(content) for name, content in told.pictures.items()}
    return {
        "title": told.title,
        "verdict": verdict(told),
        "sampled": sampled(told),
        "sheet": inline(sheet) if 0 < len(sheet) <= LARGEST_SHEET else None,
        "losses": pictures.get("losses.png"),
        "seen": seen_grid(told),
        "found": clusters and clusters_grid(clusters),
        "clustering": pictures.get("clustering.png"),
        "scores": [scores_grid(each) for each in told.scores],
        "settings": told.settings,
    }


def _names(budgets: "Sequence[Budget]") -> list[str]:
    """A name for each recipe that no other has."""
    names = [short(one.recipe) or one.title or "denoiser" for one in budgets]
    return [name if names.count(name) == 1 else f"{name} ({index + 1})" for index, name in enumerate(names)]


# --- figures ----------------------------------------------------------------------------------------------------------


def figure(value: float | None, unit: str) -> Markup:
    """A quantity with the prefix and unit that suit it; its exact value is the `value` of the element."""
    if value is None:
        return Markup("–")
    return _exactly(value, written(value, unit) if unit else _count(value))


def _count(value: float) -> str:
    """Parameters, images: in millions where they are many."""
    prefix, size = prefix_of(value, "params")
    return f"{significant(value / size)} {prefix}" if prefix else f"{value:,.0f}"


def _number(value: float | None, digits: int = 4) -> str:
    """A plain number; None is unbounded."""
    return "∞" if value is None or math.isinf(value) else f"{value:.{digits}g}"


def _share(value: float | None) -> str:
    """A share in per cent."""
    return "-" if value is None else _exactly(value, percent(value), exact=f"{100 * value:.12g} %")


def _in_full(value: float) -> str:
    """All digits of a number: whole ones without an exponent."""
    return f"{int(value):,}" if float(value).is_integer() else f"{value:,}"


def _exactly(value: float, text: str, kind: str = "", exact: str = "") -> Markup:
    number, _, unit = text.partition(" ")
    return Markup('<data value="{}" title="{}"{}>{}{}</data>').format(
        value,
        exact or _in_full(value),
        Markup(' class="{}"').format(kind) if kind else "",
        number,
        Markup(' <span class="unit">{}</span>').format(unit) if unit else "",
    )


def _cost(macs: float | None, *, flops: bool) -> Markup:
    """MACs, and where each is two FLOPs also those; the unit switch of the page shows one of the two."""
    if macs is None:
        return Markup("–")
    text = _exactly(macs, written(macs, "MACs"), "as-macs")
    return text + _exactly(2 * macs, written(2 * macs, "FLOPs"), "as-flops") if flops else text


@attrs.frozen
class Metric:
    """One figure by which recipes are compared.

    Attributes:
        key: For the script.
        label: Its name.
        hint: What it is, in a line.
        kind: How it is written: the name of a filter.
        values: One per recipe; None where a recipe has none.
    """

    key: str
    label: str
    hint: str
    kind: str
    values: tuple[float | None, ...]

    @property
    def widths(self) -> list[float]:
        """Lengths of bars, in percent of the largest."""
        largest = max((value or 0 for value in self.values), default=0) or 1
        return [100 * (value or 0) / largest for value in self.values]

    def ratio(self, index: int) -> str:
        """How a recipe's figure compares with the first recipe's."""
        first, value = self.values[0], self.values[index]
        return _share(value / first) if first and value is not None else ""


def _metrics(budgets: "Sequence[Budget]") -> list[Metric]:
    """What all recipes can be compared by; a figure that none of them has is left out."""

    def metric(key: str, label: str, hint: str, kind: str, value: "Callable[[Budget], float | None]") -> Metric:
        return Metric(key, label, hint, kind, tuple(map(value, budgets)))

    def of(part: str, key: str) -> "Callable[[Budget], float | None]":
        return lambda one: getattr(getattr(one, part), key, None)

    found = [
        metric(
            "params", "Parameters", "all networks of the recipe, shared ones once", "amount", of("parameters", "total")
        ),
        metric("call", "Cost per network call", "mean over the sampler's calls", "cost", _mean("sampling")),
        metric("sample", "Cost per sampled image", "all network calls, without an autoencoder", "cost", _per_sample),
        metric("train", "Cost per training image", "forward, mean over the training draws", "cost", _mean("training")),
        metric("length", "Cost by time", "mean over the length of the stages", "cost", _mean("length")),
        metric("batch", "Images per iteration", "the batch of a training step", "amount", of("training", "batch_size")),
        metric("images", "Training images", "iterations x batch", "amount", of("training", "images")),
        metric(
            "paper",
            "Training, the paper's account",
            "iterations x cost per call; the paper calls these MACs FLOPs",
            "macs",
            of("training", "paper_macs"),
        ),
        metric(
            "flops",
            "Training, really",
            "all images, forward and backward, exact in every convention; an autoencoder apart",
            "flops",
            of("training", "total_flops"),
        ),
        metric("memory", "Memory in training", "estimated peak", "bytes", of("memory", "peak")),
        metric("hours", "Training time", "at the measured rate", "hours", of("timing", "hours")),
        metric("planned", "Training time, planned", f"on {planned_on(budgets)}", "hours", of("estimate", "hours")),
        metric("cost", "Price of training, planned", f"on {planned_on(budgets)}", "rate", of("estimate", "cost")),
    ]
    return [one for one in found if any(value is not None for value in one.values)]


def _mean(weights: str) -> "Callable[[Budget], float | None]":
    return lambda one: one.means[weights]


def _per_sample(one: "Budget") -> float | None:
    return None if one.nfe is None else sum((stage.calls or 0) * stage.costs.total for stage in one.stages)


# --- one recipe -------------------------------------------------------------------------------------------------------


def _recipe(index: int, one: "Budget", longest: float, largest: float) -> dict[str, Any]:
    """What the page shows of one recipe beside its plain figures."""
    return {
        "index": index,
        "stages": [_stage(stage, one, longest, largest) for stage in one.stages],
        "strip": _strip(one, longest) if one.trace else None,
        "weights": _weights(one),
        "operators": _operators(one),
        "memory": _memory(one.memory) if one.memory else None,
        "limits": [_limit(limit) for limit in one.limits],
        "plans": plan_grids(one),
    }


def _stage(stage: "StageCosts", one: "Budget", longest: float, largest: float) -> dict[str, Any]:
    macs, params = stage.costs, stage.parameters
    return {
        "shade": stage.index % SHADES,
        "macs": (100 * macs.encoder / longest, 100 * macs.decoder / longest),
        "params": (100 * params.encoder / largest, 100 * params.decoder / largest),
        "memory": of_stage(one.memory, stage.index),
        "timing": of_stage(one.timing, stage.index),
    }


def _strip(one: "Budget", longest: float) -> dict[str, Any]:
    """The network calls of the sampler from left to right, as cells in percent of the width."""
    calls = one.trace
    most = max(longest, *(call.macs for call in calls))
    cells: list[dict[str, Any]] = []
    for number, call in enumerate(calls):
        like = (call.stage, call.evaluations)
        if len(calls) > LONGEST_STRIP and cells and cells[-1]["like"] == like:
            cells[-1]["last"], cells[-1]["end"] = number, call
        else:
            cells.append({"like": like, "first": number, "last": number, "start": call, "end": call})
    for cell in cells:
        start = cell["start"]
        cell["x"], cell["width"] = 100 * cell["first"] / len(calls), 100 * _calls(cell) / len(calls)
        cell["shade"], cell["height"] = start.stage % SHADES, 100 * start.macs / most
        cell["evaluations"] = start.evaluations
        cell["text"] = _cell_text(cell)
    return {"cells": cells, "runs": _runs(calls), "calls": len(calls)}


def _calls(cell: Json) -> int:
    return cell["last"] - cell["first"] + 1


def _cell_text(cell: Json) -> str:
    start, end, several = cell["start"], cell["end"], _calls(cell) > 1

    def span(key: str, digits: int) -> str:
        low, high = f"{getattr(start, key):.{digits}g}", f"{getattr(end, key):.{digits}g}"
        return f"{low} .. {high}" if several else low

    calls = f"calls {cell['first'] + 1} .. {cell['last'] + 1}" if several else f"call {cell['first'] + 1}"
    times = f"{start.evaluations} evaluation" + ("s" if start.evaluations > 1 else "")
    where = f"step {span('step', 6)}, t {span('t', 5)}, ratio {span('ratio', 5)}"
    return f"{calls}: {where}, stage {start.stage}, {times}, {start.macs:,} MACs" + (" each" if several else "")


def _runs(calls: "Sequence[CallCosts]") -> list[dict[str, Any]]:
    """Neighbouring calls of one stage, alike guided, for the labels below the strip."""
    runs: list[dict[str, Any]] = []
    done = 0
    for (stage, evaluations), group in itertools.groupby(calls, lambda call: (call.stage, call.evaluations)):
        count = len(list(group))
        width = 100 * count / len(calls)
        runs.append({"stage": stage, "count": count, "guided": evaluations > 1, "width": width})
        done += count
    return runs


def _weights(one: "Budget") -> list[dict[str, Any]]:
    """The ways to average over stages that a budget has, with the counts that make them."""
    stages = one.stages
    images = 0 if one.training is None else one.training.images
    counts: dict[str, "Callable[[StageCosts], str]"] = {
        "sampling": lambda stage: "1 call" if stage.calls == 1 else f"{stage.calls} calls",
        "training": lambda stage: (
            f"{_count(round(images * (stage.weights['training'] or 0)))} images" if images else ""
        ),
        "length": lambda stage: f"t {_number(stage.t[0], 3)} .. {_number(stage.t[1], 3)}",
    }
    twice = ", a guided one counted twice" if one.guidance and one.guidance.extra_calls else ""
    wholes = {
        "sampling": f"of the sampler's {one.nfe} network calls per image{twice}",
        "training": f"of the {_count(images)} images that training draws",
        "length": "of the time of the schedule",
    }
    rows: list[dict[str, Any]] = []
    for key in ("sampling", "training", "length"):
        shares: list[float | None] = [stage.weights[key] for stage in stages]
        if None not in shares:
            known = [share or 0.0 for share in shares]
            rows.append(
                {
                    "key": key,
                    "whole": wholes[key],
                    "mean": one.means[key],
                    "cells": [
                        {
                            "index": stage.index,
                            "shade": stage.index % SHADES,
                            "x": 100 * start,
                            "width": 100 * share,
                            "share": share,
                            "count": counts[key](stage),
                        }
                        for stage, share, start in zip(stages, known, _starts(known), strict=True)
                    ],
                }
            )
    return rows


def _starts(shares: Sequence[float]) -> list[float]:
    return [0.0, *itertools.accumulate(shares)][: len(shares)]


def _operators(one: "Budget") -> list[dict[str, Any]]:
    """MACs by operator and stage, the largest first, each with its parts; shares are of the sum over stages."""

    def rows(key: str) -> dict[str, list[int]]:
        found: list[Mapping[str, int]] = [getattr(stage.costs, key) for stage in one.stages]
        return {name: [row.get(name, 0) for row in found] for name in sorted({name for row in found for name in row})}

    whole = sum(stage.costs.total for stage in one.stages) or 1
    sums, parts = rows("by_operator"), {part: rows(f"{part}_by_operator") for part in ("encoder", "decoder")}
    return [
        {
            "name": name,
            "macs": sums[name],
            "share": sum(sums[name]) / whole,
            "parts": [
                {"name": part, "macs": of[name], "share": sum(of[name]) / whole}
                for part, of in parts.items()
                if name in of
            ],
        }
        for name in sorted(sums, key=lambda name: -sum(sums[name]))
    ]


def _memory(memory: "Memory") -> list[dict[str, Any]]:
    """Parts of the peak of a training step, in percent of it; what is neither held throughout is the step's own."""
    held = [(name.replace("_", " "), size) for name, size in attrs.asdict(memory.held).items() if size]
    rest = memory.peak - sum(size for _, size in held)
    parts = [*held, ("activations and the step's own", rest)] if rest > 0 else held
    whole = sum(size for _, size in parts) or 1
    widths = [size / whole for _, size in parts]
    return [
        {"name": name, "bytes": size, "x": 100 * start, "width": 100 * width, "shade": index % SHADES}
        for index, ((name, size), width, start) in enumerate(zip(parts, widths, _starts(widths), strict=True))
    ]


_LIMITED = {
    "params": ("parameters", "amount"),
    "macs": ("MACs per network call", "cost"),
    "flops": ("FLOPs of training", "flops"),
    "memory": ("bytes at the peak of training", "bytes"),
    "hours": ("hours of the whole training", "hours"),
    "cost": ("money for the whole training", "rate"),
}
"""Key of a limit -> what it limits, and the filter that writes it."""


def _limit(limit: "Limit") -> dict[str, Any]:
    what, kind = _LIMITED.get(limit.key, (limit.key, "number"))
    found = limit.found
    share = found / limit.limit if found is not None and limit.limit else None
    return {**attrs.asdict(limit), "what": what, "kind": kind, "share": share}


# --- training ---------------------------------------------------------------------------------------------------------


def _where_accounts_differ(name: str, one: "Budget", first: "Budget") -> str:
    """What keeps the paper's accounting and the real cost of training apart, of one recipe and beside the first."""
    if not one.training or not one.training.explanation:
        return ""
    beside = "" if one is first else " " + accounts_apart(one, first)
    return f"{name}: {one.training.explanation}{beside}"


def _ledger(ledger: "Ledger") -> dict[str, Any]:
    """What each stage has seen and spent, beside what the recipe predicts for the same iteration."""
    spent, predicted = ledger.spent, ledger.predicted
    rows: list[dict[str, Any]] = [
        {
            "index": index,
            "shade": index % SHADES,
            "images": seen,
            "share": seen / max(ledger.images, 1),
            "expected_share": expected / max(predicted.images, 1),
            "spent": flops,
            "predicted": likely,
            "difference": apart(flops, likely),
        }
        for index, (seen, expected, flops, likely) in enumerate(
            zip(
                ledger.images_by_stage,
                predicted.images_by_stage,
                spent.total_flops_by_stage,
                predicted.total_flops_by_stage,
                strict=True,
            )
        )
    ]
    most = max((max(row["spent"], row["predicted"]) for row in rows), default=0) or 1
    for row in rows:
        row["widths"] = (100 * row["spent"] / most, 100 * row["predicted"] / most)
    return {
        "rows": rows,
        "iteration": ledger.iteration,
        "images": ledger.images,
        "spent": ledger.total_flops,
        "predicted": predicted.total_flops,
        "difference": apart(ledger.total_flops, predicted.total_flops),
        "convention": ledger.convention,
        "beside": beside_training(ledger),
    }
