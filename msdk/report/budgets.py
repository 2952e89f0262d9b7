"""Budgets as tables: recipes side by side, and one recipe by its stages, parts or operators."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Literal

from msdk.recipe.quantities import prefix_of, si_prefix, significant, written
from msdk.report.figures import (
    millions,
    percent,
    planned_on,
    ratio,
    scaled,
    short,
    title_of,
)
from msdk.report.grid import Grid
from msdk.report.plans import plan_grid, sweep_grid
from msdk.report.resources import estimate_grid, ledger_grid, limits_grid, memory_grid, timing_grid

if TYPE_CHECKING:
    from msdk.budgeting import Budget
    from msdk.budgeting.costs import AutoencoderCosts, TrainingCosts

MACS = {
    "exact": "MACs of convolutions, linear maps and attention (1 multiply-accumulate = 2 FLOPs)",
    "paper": "the paper's convention: Conv2d MACs + bias additions + Linear MACs, without attention and input pyramid",
    "fvcore": "fvcore's own total: MACs plus norm and upsampling operations, without fused attention",
}


By = Literal["stage", "part", "operator"]

SORTS: Mapping[str, "Callable[[Budget], float | None]"] = {
    "params": lambda one: one.parameters.total,
    "call": lambda one: one.means["sampling"],
    "train": lambda one: one.means["training"],
    "paper": lambda one: one.training and one.training.paper_pflops,
    "flops": lambda one: one.training and one.training.total_flops,
    "memory": lambda one: one.memory and one.memory.peak,
    "hours": lambda one: one.timing.hours if one.timing else one.estimate and one.estimate.hours,
}
"""What recipes can be sorted by -> the figure; None stands last."""


def budget_grids(budgets: Sequence["Budget"], *, by: By = "stage", sort: str | None = None) -> list[Grid]:
    """One table that compares several recipes, then for each recipe its stages, parts or operators and all else."""
    rows_of = {"stage": stages_grid, "part": parts_grid, "operator": operators_grid}[by]
    grids = [comparison_grid(budgets, sort=sort)] if len(budgets) > 1 else []
    for one in budgets:
        grids.append(rows_of(one))
        grids += [
            grid(one)
            for key, grid in (
                ("limits", limits_grid),
                ("memory", memory_grid),
                ("timing", timing_grid),
                ("estimate", estimate_grid),
                ("plan", plan_grid),
                ("plan", sweep_grid),
                ("ledger", ledger_grid),
            )
            if getattr(one, key)
        ]
    return grids


def comparison_grid(budgets: Sequence["Budget"], *, sort: str | None = None) -> Grid:
    """Recipes side by side; ratios are to the first, also where they are sorted."""
    first = budgets[0].means
    prefix, unit = si_prefix(max(one.means[weights] or 0 for one in budgets for weights in ("sampling", "training")))
    # Both accounts of training have the prefix that suits the paper's, which is the smaller one by far.
    whole, of_training = prefix_of(max(one.training.paper_macs if one.training else 0 for one in budgets), "MACs")
    order = list(budgets)
    if sort is not None:
        figure = SORTS[sort]
        order.sort(key=lambda one: math.inf if figure(one) is None else figure(one) or 0)
    figures: Mapping[str, "Callable[[Budget], str | None]"] = {
        "memory": lambda one: one.memory and written(one.memory.peak, "B"),
        "hours": lambda one: one.timing and significant(one.timing.hours),
        "hours, planned": lambda one: one.estimate and significant(one.estimate.hours),
        "cost, planned": lambda one: (
            None if one.estimate is None or one.estimate.cost is None else significant(one.estimate.cost)
        ),
        "hours, many cards": lambda one: one.plan and significant(one.plan.step.hours),
        "efficiency": lambda one: one.plan and percent(one.plan.step.efficiency),
    }
    extra = {name: figure for name, figure in figures.items() if any(figure(one) for one in budgets)}
    rows: list[tuple[str, ...]] = []
    for one in order:
        active = [stage.parameters.active for stage in one.stages]
        macs, training = one.means, one.training
        rows.append(
            (
                short(one.recipe) or one.title,
                millions(one.parameters.total),
                " / ".join(millions(count) for count in active),
                scaled(macs["sampling"], unit) + ratio(macs["sampling"], first["sampling"]),
                scaled(macs["training"], unit) + ratio(macs["training"], first["training"]),
                "-" if training is None else f"{training.iterations:,}",
                "-" if training is None else f"{training.batch_size:,}",
                "-" if training is None else millions(training.images),
                scaled(training and training.paper_macs, of_training),
                scaled(training and training.total_flops, of_training),
                *(figure(one) or "-" for figure in extra.values()),
            )
        )
    head = (
        "recipe",
        "params M",
        "active M by stage",
        f"{prefix}MACs/call",
        f"{prefix}MACs/train image",
        "iterations",
        "batch",
        "images M",
        f"{whole}MACs, paper",
        f"{whole}FLOPs, train",
        *extra,
    )
    conventions = sorted({one.convention for one in budgets})
    notes = [f"{name}: {MACS[name]}." for name in conventions]
    notes.append("call: mean over the sampler's network calls. train image: mean over the training draws, forward.")
    notes.append(f"{whole}MACs, paper: iterations x MACs/call, as the paper counts, which calls them FLOPs.")
    real = "" if conventions == ["exact"] else ", in exact MACs"
    notes.append(f"{whole}FLOPs, train: all images, 2 x (forward + backward){real}, and what is recomputed.")
    plans = planned_on(budgets)
    notes += [f"planned: on {plans}."] if plans else []
    if len(conventions) > 1:
        notes.append("The recipes ask for different conventions: compare them with --convention exact.")
    notes += [sentence for one in budgets[1:] if (sentence := accounts_apart(one, budgets[0]))]
    return Grid("Budgets side by side", head, tuple(rows), tuple(notes))


def accounts_apart(one: "Budget", first: "Budget") -> str:
    """How a recipe compares with the first by the paper's accounting, and how by what training costs, in sentences."""
    ours, theirs = one.training, first.training
    calls = one.means["sampling"], first.means["sampling"]
    if ours is None or theirs is None or not calls[0] or not calls[1] or not theirs.paper_pflops:
        return ""
    real, paper = ours.total_flops / theirs.total_flops, ours.paper_pflops / theirs.paper_pflops
    image = real * theirs.images / ours.images
    draws = " / ".join(f"{100 * (stage.weights['training'] or 0):.3g}" for stage in one.stages)
    where = f", since training draws its stages by {draws} %" if len(one.stages) > 1 else ""
    told = (
        f"{short(one.recipe) or one.title} against {short(first.recipe) or first.title}: by the paper's "
        f"account, which prices training by the mean sampling call ({100 * calls[0] / calls[1]:.0f} %), training takes "
        f"{100 * paper:.0f} % of the MACs; really an image costs {100 * image:.0f} %{where}, and all of training "
        f"{100 * real:.0f} %"
    )
    if (ours.images, ours.batch_size) == (theirs.images, theirs.batch_size):
        return f"{told}."
    lengths = [
        f"{millions(each.images)} M ({each.iterations:,} iterations of {each.batch_size:,})" for each in (ours, theirs)
    ]
    return f"{told}, with {100 * ours.images / theirs.images:.0f} % of the images: {lengths[0]} against {lengths[1]}."


def stages_grid(one: "Budget") -> Grid:
    """One recipe, stage by stage."""
    prefix, unit = si_prefix(max(stage.costs.total for stage in one.stages))
    filters = any("conv_fir" in stage.costs.by_operator for stage in one.stages)
    rows: list[tuple[str, ...]] = []
    for stage in one.stages:
        macs, weights = stage.costs, stage.weights
        (t_low, t_high), (low, high) = stage.t, stage.ratio
        row = (
            str(stage.index),
            f"{t_low:.4g} .. {t_high:.4g}",
            f"{low:.4g} .. {'inf' if high is None else f'{high:.4g}'}",
            f"{millions(stage.encoder_params)} + {millions(stage.decoder_params)}",
            f"{scaled(macs.encoder, unit)} + {scaled(macs.decoder, unit)}",
            scaled(macs.total, unit),
            "-" if stage.calls is None else f"{stage.calls}",
            percent(weights["sampling"]),
            percent(weights["training"]),
            percent(weights["length"]),
        )
        rows.append((*row, scaled(macs.by_operator.get("conv_fir", 0), unit)) if filters else row)
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
    means, audit = one.means, one.audit
    notes = [
        f"{prefix}MACs per image, convention {one.convention}: {MACS[one.convention]}.",
        f"mean {prefix}MACs weighted by calls {scaled(means['sampling'], unit)}, by training "
        f"{scaled(means['training'], unit)}, by time {scaled(means['length'], unit)}; network calls per image: "
        f"{one.nfe if one.nfe is not None else '-'}.",
        f"second counter (torch), exact convention: {scaled(audit.second_counter_macs, unit)} {prefix}MACs over all "
        f"stages, relative difference {audit.relative_difference:.1e}.",
    ]
    guidance = one.guidance
    if guidance and guidance.extra_calls:
        low, high = guidance.interval or (0, math.inf)
        where = "in all calls" if math.isinf(high) else f"for ratio in ({low:.4g}, {high:.4g}]"
        told = "evaluates the network with and without the class"
        if guidance.run is not None:
            price = "" if guidance.macs is None else f", of {scaled(guidance.macs, unit)} {prefix}MACs an image"
            told = f"evaluates {guidance.run} as well{price}, beside the stages above"
        notes.append(
            f"guidance of weight {guidance.weight:.4g} {where} {told}: {guidance.extra_calls} of the calls are its own."
        )
    if one.autoencoder:
        notes.append(_autoencoder_note(one.autoencoder, prefix, unit))
    notes += _training_notes(one)
    notes += [f"{note}." for note in one.notes]
    notes += _not_counted(one)
    return Grid(title_of(one), (*head, "of which FIR") if filters else head, tuple(rows), tuple(notes))


def _training_notes(one: "Budget") -> list[str]:
    training, params = one.training, one.parameters
    kept = f"training keeps {millions(params.trained)} M trained parameters"
    kept += f", {millions(params.ema)} M averaged (EMA)" if params.ema else ""
    kept += f" and {millions(params.optimizer)} M numbers of the optimiser."
    if training is None:
        return [kept]
    prefix, size = prefix_of(training.total_flops, "FLOPs")

    def told(flops: float) -> str:
        return f"{significant(flops / size)} {prefix}FLOPs"

    again = f", {told(training.recompute_flops)} recomputed" if training.recompute_flops else ""
    encoded = training.autoencoder_flops
    latents = f"; encoding its images with the autoencoder, {told(encoded)} more" if encoded else ""
    cut = f" in {training.accumulation} micro-batches" if training.accumulation > 1 else ""
    return [
        kept,
        f"training: {training.iterations:,} iterations of {training.batch_size:,} images{cut}: "
        f"{told(training.forward_flops)} forward, {told(training.backward_flops)} backward{again}{latents}.",
        *_updates_note(one, training),
        *([training.explanation] if training.explanation else []),
    ]


def _updates_note(one: "Budget", training: "TrainingCosts") -> list[str]:
    """How often the decoders are updated, which depends on how many stages a batch draws."""
    groups = training.stage_groups
    if len(one.stages) == 1 or groups is None:
        return []
    size = training.batch_size // groups
    cut = (
        "each image draws a stage of its own" if size == 1 else f"{groups} groups of {size:,} images draw a stage each"
    )
    cut = "a batch is of one stage" if groups == 1 else cut
    updates = " / ".join(f"{stage.updates or 0:,.0f}" for stage in training.stages)
    return [f"{cut}, so the decoders are expected to get {updates} updates by stage."]


def _not_counted(one: "Budget") -> list[str]:
    if not one.uncounted:
        return []
    return [f"NOT COUNTED: {', '.join(f'{op} x{times}' for op, times in one.uncounted.items())}."]


def parts_grid(one: "Budget") -> Grid:
    """One recipe, part by part: parameters, MACs of a call, and how often it is called."""
    stages, params, coder = one.stages, one.parameters, one.autoencoder
    prefix, unit = si_prefix(max(stage.costs.total for stage in stages))
    shared = params.shared > 0
    spent = None if one.nfe is None else sum((stage.calls or 0) * stage.costs.total for stage in stages)

    def row(name: str, count: int | None, macs: int | None, calls: int | None = None) -> tuple[str, ...]:
        share = None if not spent or macs is None or calls is None else macs * calls / spent
        return (
            name,
            "-" if count is None else millions(count),
            scaled(macs, unit),
            "-" if calls is None else f"{calls}",
            percent(share),
        )

    rows = [
        row(
            "encoder, of all stages" if shared else f"encoder of stage {stage.index}",
            stage.parameters.encoder,
            stage.costs.encoder,
            one.nfe if shared else stage.calls,
        )
        for stage in (stages[:1] if shared else stages)
    ]
    adapters = params.other - (coder.params if coder else 0)
    rows += [row("adapter, its MACs are the encoder's", adapters, None)] if adapters else []
    rows += [
        row(f"decoder of stage {stage.index}", stage.parameters.decoder, stage.costs.decoder, stage.calls)
        for stage in stages
    ]
    if coder:
        rows += [
            row("autoencoder, frozen", coder.params, None),
            row("  to encode a training image", None, coder.encode_macs),
            row("  to decode a sample", None, coder.decode_macs),
        ]
    rows.append(row("all parameters", params.total, None))
    rows += [row("copy of averages (EMA)", params.ema, None)] if params.ema else []
    rows.append(row("state of the optimiser", params.optimizer, None))
    head = ("part", "params M", f"{prefix}MACs", "calls", "of sampling")
    notes = [f"{prefix}MACs per image and call, convention {one.convention}: {MACS[one.convention]}."]
    return Grid(title_of(one), head, tuple(rows), tuple(notes + _not_counted(one)))


def operators_grid(one: "Budget") -> Grid:
    """One recipe, operator by operator: MACs of the encoder and the decoder of each stage."""
    stages = one.stages
    prefix, unit = si_prefix(max(stage.costs.total for stage in stages))
    whole = sum(stage.costs.total for stage in stages) or 1
    names = {name for stage in stages for name in stage.costs.by_operator}
    sums = {name: sum(stage.costs.by_operator.get(name, 0) for stage in stages) for name in names}
    rows = [
        (
            name,
            *(
                " + ".join(
                    scaled(rows.get(name, 0), unit)
                    for rows in (stage.costs.encoder_by_operator, stage.costs.decoder_by_operator)
                )
                for stage in stages
            ),
            percent(sums[name] / whole),
        )
        for name in sorted(names, key=lambda name: (-sums[name], name))
    ]
    rows.append(
        (
            "all",
            *(f"{scaled(stage.costs.encoder, unit)} + {scaled(stage.costs.decoder, unit)}" for stage in stages),
            percent(1.0),
        )
    )
    rows += [(f"{name}, {times} times", *("NOT COUNTED" for _ in stages), "-") for name, times in one.uncounted.items()]
    head = ("operator", *(f"stage {stage.index}, {prefix}MACs enc + dec" for stage in stages), "share")
    notes = (f"{prefix}MACs per image and call, convention {one.convention}: {MACS[one.convention]}.",)
    return Grid(title_of(one), head, tuple(rows), notes)


def _autoencoder_note(costs: "AutoencoderCosts", prefix: str, unit: float) -> str:
    return (
        f"autoencoder, in no stage: {millions(costs.params)} M parameters; {scaled(costs.encode_macs, unit)} "
        f"{prefix}MACs to encode a training image, {scaled(costs.decode_macs, unit)} to decode a sample."
    )
