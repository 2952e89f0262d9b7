"""Budgets as CSV: one row per recipe and stage."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol, TypeVar

from msdk.report.grid import csv_text

if TYPE_CHECKING:
    from msdk.budgeting import Budget, StageCosts

T = TypeVar("T", covariant=True)


def budgets_csv(budgets: Sequence["Budget"]) -> str:
    """One row per recipe and stage, units in the names of the columns; what a budget does not have is empty.

    Figures of a whole recipe stand in each of its rows, under names that start with `recipe_`. From the rows follow
    the totals: parameters = recipe_encoder_params + sum of decoder_params + recipe_other_params, MACs of one image =
    sum of calls_per_image x total_macs, MACs per training image = sum of training_share x total_macs, and so on.
    The columns are always the same and in the same order, but for those of the operators, which come last by name.
    """
    operators = sorted({name for one in budgets for stage in one.stages for name in stage.costs.by_operator})
    rows = [_csv_row(one, stage, operators) for one in budgets for stage in one.stages]
    return csv_text([tuple(rows[0]), *(tuple(row.values()) for row in rows)])


def _csv_row(one: "Budget", stage: "StageCosts", operators: Sequence[str]) -> dict[str, object]:
    training, first_stage, memory, timing = one.training, one.autoencoder, one.memory, one.timing
    held, speed = of_stage(memory, stage.index), of_stage(timing, stage.index)
    row: dict[str, object] = {
        "recipe": one.recipe,
        "title": one.title,
        "convention": one.convention,
        "stage": stage.index,
        "t_low": stage.t[0],
        "t_high": stage.t[1],
        "ratio_low": stage.ratio[0],
        "ratio_high": stage.ratio[1],
        "encoder_params": stage.parameters.encoder,
        "decoder_params": stage.parameters.decoder,
        "active_params": stage.parameters.active,
        "encoder_macs": stage.costs.encoder,
        "decoder_macs": stage.costs.decoder,
        "total_macs": stage.costs.total,
        "calls_per_image": stage.calls,
        "sampling_share": stage.weights["sampling"],
        "training_share": stage.weights["training"],
        "length_share": stage.weights["length"],
        "recipe_params": one.parameters.total,
        "recipe_encoder_params": one.parameters.encoder,
        "recipe_other_params": one.parameters.other,
        "recipe_calls_per_image": one.nfe,
        "recipe_iterations": training and training.iterations,
        "recipe_images": training and training.images,
        "recipe_paper_pflops": training and training.paper_pflops,
        "recipe_training_flops": training and training.total_flops,
        "recipe_autoencoder_params": first_stage and first_stage.params,
        "recipe_encode_macs": first_stage and first_stage.encode_macs,
        "recipe_decode_macs": first_stage and first_stage.decode_macs,
        "memory_dtype": memory and memory.dtype,
        "memory_images_at_a_time": memory and memory.micro_batch,
        "activations_bytes_per_image": held and held.activations_per_image,
        "training_peak_bytes": held and held.peak,
        "recipe_training_peak_bytes": memory and memory.peak,
        "recipe_sampling_peak_bytes": memory and memory.sampling_peak,
        "timing_device": timing and timing.name,
        "timing_dtype": timing and timing.dtype,
        "timing_images_at_a_time": timing and timing.batch,
        "sampling_images_per_second": speed and speed.sampling_images_per_second,
        "training_images_per_second": speed and speed.training_images_per_second,
        "recipe_training_hours": timing and timing.hours,
    }
    return {**row, **{f"operator_{name}_macs": stage.costs.by_operator.get(name, 0) for name in operators}}


def of_stage(part: "HasStages[T] | None", index: int) -> T | None:
    """What memory or timing say of one stage; None where there is none."""
    return None if part is None else part.stages[index]


class HasStages(Protocol[T]):
    """Memory or timing: something for each stage."""

    @property
    def stages(self) -> Sequence[T]: ...
