"""Made-up inputs for training steps and sampler's calls, which budgets simulate for memory and time for speed."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import attrs
import torch

from msdk.batch import Batch, Condition
from msdk.denoiser import Denoiser
from msdk.distributed import Group
from msdk.errors import PartError
from msdk.objectives.base import Draw
from msdk.recipe import Recipe
from msdk.samplers.tracing import Call
from msdk.training.drawing import layout
from msdk.training.step import TrainingStep

Counts = Mapping[int, int]
"""Images of each stage that has any, in ascending order of stages."""


def trial(recipe: Recipe, denoiser: Denoiser, parts: Sequence[Counts]) -> tuple[Batch, Draw]:
    """Grey images in the middle of their stages' times, for a training step of one micro-batch for each of `parts`."""
    device = denoiser.place.device
    stages = [stage for counts in parts for stage, count in counts.items() for _ in range(count)]
    ranges = denoiser.partition.times(denoiser.schedule)
    times = torch.tensor([sum(ranges[stage]) / 2 for stage in stages], dtype=torch.float64)

    def blank(shape: Sequence[int]) -> torch.Tensor:
        return torch.zeros(len(stages), *shape, device=device).to(memory_format=layout(len(shape) + 1))

    weights = recipe.weighting.weight(denoiser.schedule, times)
    count = recipe.training.loss.extra
    extra = blank(denoiser.shape)[:, None].expand(-1, count, *(-1 for _ in denoiser.shape)).clone() if count else None
    draw = Draw(torch.tensor(stages), times, weights, blank(denoiser.shape).normal_(), extra)
    return Batch(blank(recipe.data.shape), condition(recipe, denoiser, len(stages), device)), draw


def started(recipe: Recipe, denoiser: Denoiser, group: Group | None = None) -> TrainingStep:
    """A training step whose optimiser keeps what it keeps after the first steps of a run, of all stages."""
    step = TrainingStep(recipe, denoiser, group)
    step.scaler = None  # it has two numbers, and of some optimisers it asks the device for one
    for parameter in step.own:
        parameter.grad = torch.zeros_like(parameter) if parameter.requires_grad else None
    step.update(0)
    step.optimizer.zero_grad(set_to_none=True)
    return step


def condition(recipe: Recipe, denoiser: Denoiser, batch: int, device: torch.device) -> Condition:
    """Class and augmentation labels as training feeds them, without those that it does not."""
    told = recipe.encoder_of(0).info(denoiser.shape).augment if recipe.training.augment else 0
    return Condition(
        label=torch.zeros(batch, dtype=torch.int64, device=device) if denoiser.classes else None,
        augment=torch.zeros(batch, told, device=device) if told else None,
    )


def fed(denoiser: Denoiser, stage: int) -> float:
    """What the network is fed as noise level in the middle of a stage's times."""
    low, high = denoiser.partition.times(denoiser.schedule)[stage]
    return denoiser.parameterization.coefficients(denoiser.schedule.seen, (low + high) / 2).c_noise


def sampling_calls(recipe: Recipe, denoiser: Denoiser) -> dict[int, float]:
    """Stages that the recipe's sampler visits -> the time of its dearest call there: a guided one, if there is any."""
    dearest = dict[int, Call]()
    for call in recipe.calls(denoiser.partition):
        if call.stage not in dearest or call.evaluations > dearest[call.stage].evaluations:
            dearest[call.stage] = call
    return {stage: call.t for stage, call in dearest.items()}


def sampling_call(recipe: Recipe, denoiser: Denoiser, batch: int, device: torch.device) -> Callable[[float], Any]:
    """A function of time that makes one network call for a batch, guided where the recipe guides."""
    x = torch.zeros(batch, *denoiser.fed, device=device).normal_()
    if not denoiser.classes:
        return lambda t: denoiser(x, t)
    label = torch.zeros(batch, dtype=torch.int64, device=device)
    guided = recipe.guidance.around(denoiser, denoiser.schedule, label)
    return lambda t: guided(x, t)


def micro_batch(recipe: Recipe, batch: int) -> int:
    """Images in memory at a time where a step has `batch` of them.

    Raises:
        PartError: The recipe's micro-batches do not divide the batch.
    """
    parts = recipe.training.accumulation
    if batch < 1 or batch % parts:
        raise PartError(
            f"a batch of {batch} cannot be cut into {parts} micro-batches (training.accumulation): give a positive "
            "multiple of that"
        )
    return batch // parts


def without_weights(recipe: Recipe) -> Recipe:
    """The recipe without the file of its autoencoder's weights, on which neither sizes nor speed depend."""
    if recipe.autoencoder is None:
        return recipe
    return attrs.evolve(recipe, autoencoder=attrs.evolve(recipe.autoencoder, weights=None))
