"""A training step and a sampler's network call on made-up images: what is simulated for memory and timed for speed.

They hold no data, draw nothing that matters, and write nothing; all else is as in the real ones. Training imports
budgets, not the other way round, so the step is written a second time here; a test holds both together.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import attrs
import torch
from torch import Tensor

from msdk.batch import Condition
from msdk.denoiser import Denoiser
from msdk.errors import PartError
from msdk.recipe import Recipe
from msdk.samplers.base import call_times

Counts = Mapping[int, int]
"""Images of each stage that has any, in ascending order of stages."""


class TrainingStep:
    """Optimiser steps of a denoiser, with the tensors and the order of events of `msdk.training.loop.Trainer`.

    What is mirrored: `Trainer.__init__` (channels last, optimiser, averages), `Trainer._step` and `msdk.training.loss`
    (encoding under no_grad, weighted squared error at the network's output). Schedules and weightings are ones.

    Args:
        recipe: Its training section is used, without its batch size and precision.
        denoiser: In training mode, with its tensors where the step is to run, channels last.
        bf16: Whether networks run under autocast.
    """

    def __init__(self, recipe: Recipe, denoiser: Denoiser, *, bf16: bool) -> None:
        options = recipe.training
        self.recipe, self.denoiser, self.bf16 = recipe, denoiser, bf16
        denoiser.network.set_recompute(options.recompute)
        self.parameters = list(denoiser.network.parameters())
        self.device = self.parameters[0].device
        self.optimizer = options.rule.build(self.parameters, options.lr)
        self.averages = [parameter.detach().clone() for parameter in self.parameters]
        # The first step of a run makes the moments; all others find them.
        for parameter in self.parameters:
            parameter.grad = torch.zeros_like(parameter) if parameter.requires_grad else None
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)

    def run(self, parts: Sequence[Counts]) -> None:
        """One step of one micro-batch for each entry of `parts`."""
        denoiser = self.denoiser
        batch = sum(sum(counts.values()) for counts in parts)
        images = torch.zeros(batch, *self.recipe.data.shape, dtype=torch.uint8, device=self.device)
        images = images.to(memory_format=torch.channels_last).float() / 127.5 - 1
        noise = torch.empty(batch, *denoiser.shape, device=self.device, memory_format=torch.channels_last).normal_()
        label, augment = labels(self.recipe, denoiser, batch, self.device)
        self.optimizer.zero_grad(set_to_none=True)
        first = 0
        for counts in parts:
            own = slice(first, first + sum(counts.values()))
            first = own.stop
            values = self._losses(counts, images[own], noise[own], _part(label, own), _part(augment, own))
            (values.mean() / len(parts)).backward()
            values = values.detach()
        self.update()

    def update(self) -> None:
        """Takes the gradients in."""
        options = self.recipe.training
        if options.sanitize:
            for parameter in self.parameters:
                if parameter.grad is not None:
                    parameter.grad.nan_to_num_(nan=0.0, posinf=1e5, neginf=-1e5)
        if options.clip_norm:
            torch.nn.utils.clip_grad_norm_(self.parameters, options.clip_norm)
        self.optimizer.step()
        weights = [parameter.detach() for parameter in self.parameters]
        torch._foreach_lerp_(self.averages, weights, 1e-4)  # pyright: ignore[reportPrivateUsage, reportPrivateImportUsage]  see msdk.training.ema

    def _losses(
        self, counts: Counts, images: Tensor, noise: Tensor, label: Tensor | None, augment: Tensor | None
    ) -> Tensor:
        denoiser, batch = self.denoiser, len(images)
        autocast = torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16)
        with autocast, torch.no_grad():
            x_0 = denoiser.encode(images).float()
        ones = torch.ones(batch, 1, 1, 1, device=self.device)
        x_t = ones * x_0 + ones * noise
        with autocast:
            output = staged(denoiser, ones * x_t, counts, label, augment)[:, : x_t.shape[1]]
        target = ones * x_0 + ones * noise
        return (ones * (output.float() - target).square()).mean(dim=(1, 2, 3))


def staged(
    denoiser: Denoiser, x: Tensor, counts: Counts, label: Tensor | None = None, augment: Tensor | None = None
) -> Tensor:
    """The network on images that lie in order of their stages, as `StagedNetwork.route` runs it."""
    levels = [fed(denoiser, stage) for stage, count in counts.items() for _ in range(count)]
    c_noise = torch.tensor(levels, dtype=torch.float64, device=x.device)
    if len(counts) == 1:
        return denoiser.network(x, c_noise, next(iter(counts)), label, augment)
    index = torch.arange(len(x), device=x.device)
    return denoiser.network.mixed(x, c_noise, counts, index, index, Condition(label, augment))


def labels(recipe: Recipe, denoiser: Denoiser, batch: int, device: torch.device) -> tuple[Tensor | None, Tensor | None]:
    """Class and augmentation labels as training feeds them, or None for those that it does not."""
    label = torch.zeros(batch, dtype=torch.int64, device=device) if denoiser.classes else None
    told = recipe.encoder.info(denoiser.shape).augment if recipe.training.augment else 0
    return label, torch.zeros(batch, told, device=device) if told else None


def fed(denoiser: Denoiser, stage: int) -> float:
    """What the network is fed as noise level in the middle of a stage's times."""
    low, high = denoiser.partition.times(denoiser.schedule)[stage]
    return denoiser.parameterization.coefficients(denoiser.schedule, (low + high) / 2).c_noise


def _part(whole: Tensor | None, own: slice) -> Tensor | None:
    return None if whole is None else whole[own]


def sampling_calls(recipe: Recipe, denoiser: Denoiser) -> dict[int, float]:
    """Stages that the recipe's sampler visits -> the time of its dearest call there: a guided one, if there is any."""
    found: dict[int, float] = {}
    for t in (t for interval in call_times(recipe.solver, recipe.schedule, recipe.steps) for t in interval):
        stage = denoiser.partition.at(t, recipe.schedule)
        cost = recipe.guidance.evaluations(recipe.schedule.ratio(t))
        if stage not in found or cost > recipe.guidance.evaluations(recipe.schedule.ratio(found[stage])):
            found[stage] = t
    return found


def sampling_call(recipe: Recipe, denoiser: Denoiser, batch: int, device: torch.device) -> Callable[[float], Any]:
    """A function of time that makes one network call for a batch, guided where the recipe guides."""
    x = torch.zeros(batch, *denoiser.shape, device=device).normal_()
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
