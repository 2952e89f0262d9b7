"""Budgets as tables: recipes side by side, one recipe stage by stage, and one row per recipe and stage as CSV."""

import math
from collections.abc import Sequence

from msdk.report.figures import Json, brief, millions, percent, ratio, scaled, short, si_prefix
from msdk.report.grid import Grid, csv_text

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


def budgets_csv(budgets: Sequence[Json]) -> str:
    """One row per recipe and stage, units in the names of the columns; what a budget does not have is empty.

    Figures of a whole recipe stand in each of its rows, under names that start with `recipe_`. From the rows follow
    the totals: parameters = recipe_encoder_params + sum of decoder_params + recipe_other_params, MACs of one image =
    sum of calls_per_image x total_macs, MACs per training image = sum of training_share x total_macs, and so on.
    The columns are always the same and in the same order, but for those of the operators, which come last by name.
    """
    operators = sorted({name for one in budgets for stage in one["stages"] for name in stage["macs"]["by_operator"]})
    rows = [_csv_row(one, stage, operators) for one in budgets for stage in one["stages"]]
    return csv_text([tuple(rows[0]), *(tuple(row.values()) for row in rows)])


def _csv_row(one: Json, stage: Json, operators: Sequence[str]) -> dict[str, object]:
    training, first_stage = one["training"] or {}, one["autoencoder"] or {}
    memory, timing = one.get("memory") or {}, one.get("timing") or {}
    held, speed = (of_stage(part, stage["index"]) for part in (memory, timing))
    row: dict[str, object] = {
        "recipe": one["recipe"],
        "title": one["title"],
        "convention": one["convention"],
        "stage": stage["index"],
        "t_low": stage["t"][0],
        "t_high": stage["t"][1],
        "ratio_low": stage["ratio"][0],
        "ratio_high": stage["ratio"][1],
        "encoder_params": stage["params"]["encoder"],
        "decoder_params": stage["params"]["decoder"],
        "active_params": stage["params"]["active"],
        "encoder_macs": stage["macs"]["encoder"],
        "decoder_macs": stage["macs"]["decoder"],
        "total_macs": stage["macs"]["total"],
        "calls_per_image": stage["calls"],
        "sampling_share": stage["weights"]["sampling"],
        "training_share": stage["weights"]["training"],
        "length_share": stage["weights"]["length"],
        "recipe_params": one["params"]["total"],
        "recipe_encoder_params": one["params"]["encoder"],
        "recipe_other_params": one["params"]["other"],
        "recipe_calls_per_image": one["nfe"],
        "recipe_iterations": training.get("iterations"),
        "recipe_images": training.get("images"),
        "recipe_paper_pflops": training.get("paper_pflops"),
        "recipe_training_flops": training.get("total_flops"),
        "recipe_autoencoder_params": first_stage.get("params"),
        "recipe_encode_macs": first_stage.get("encode_macs"),
        "recipe_decode_macs": first_stage.get("decode_macs"),
        "memory_dtype": memory.get("dtype"),
        "memory_images_at_a_time": memory.get("micro_batch"),
        "activations_bytes_per_image": held.get("activations_per_image"),
        "training_peak_bytes": held.get("peak"),
        "recipe_training_peak_bytes": memory.get("peak"),
        "recipe_sampling_peak_bytes": memory.get("sampling_peak"),
        "timing_device": timing.get("name"),
        "timing_dtype": timing.get("dtype"),
        "timing_images_at_a_time": timing.get("batch"),
        "sampling_images_per_second": speed.get("sampling_images_per_second"),
        "training_images_per_second": speed.get("training_images_per_second"),
        "recipe_training_hours": timing.get("hours"),
    }
    return {**row, **{f"operator_{name}_macs": stage["macs"]["by_operator"].get(name, 0) for name in operators}}


def of_stage(part: Json, index: int) -> Json:
    """The entry of one stage in the `stages` of memory or timing; empty where there is none."""
    return next((one for one in part.get("stages", ()) if one["index"] == index), {})
