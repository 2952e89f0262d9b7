"""Budgets as CSV: one row per recipe and stage."""

from collections.abc import Sequence

from msdk.report.figures import Json
from msdk.report.grid import csv_text


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
