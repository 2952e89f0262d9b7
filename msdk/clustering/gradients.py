"""Loss gradients of networks in training, time by time: what the `gradient` clustering looks at."""

import functools
import math
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import cast

import attrs
import torch
from torch import Tensor, nn

from msdk.batch import Batch, Condition
from msdk.datasets.base import Source
from msdk.denoiser import Denoiser
from msdk.denoiser.building import build
from msdk.errors import PartError
from msdk.objectives.base import Draw, Loss
from msdk.recipe import Recipe, Stages
from msdk.runs import checkpoints, latest, load_checkpoint, load_weights, run_recipe
from msdk.schedules.base import Schedule
from msdk.threads import network_macs, threads_for
from msdk.training import Step
from msdk.training.beginning import train_here
from msdk.training.drawing import to_range
from msdk.training.labels import training_labels
from msdk.training.state import put_objective
from msdk.training.step import encoded, image_losses, objective_of

MICRO_BATCH = 32
"""Images at a time; gradients of larger batches are added up."""


@attrs.frozen
class LossGradient:
    """A network at a checkpoint, with the batch that its gradients are of.

    Attributes:
        recipe: Of the run: its loss is used.
        denoiser: With the weights of the checkpoint.
        schedule: Whose times are asked for; the run's own may differ.
        objective: Of the run, with what it owns at the checkpoint.
        batch: x_0, [batch, channels, *axes], and conditions, on the device.
        noise: Of the shape of x_0, likewise: the same for all times.
        fresh: Draws a noise for every time instead, and what dropout leaves out; None where nothing is dropped.
    """

    recipe: Recipe
    denoiser: Denoiser
    schedule: Schedule
    objective: Loss
    batch: Batch
    noise: Tensor
    fresh: torch.Generator | None = None

    def gradient(self, t: float) -> Tensor:
        """The gradient of the mean loss with respect to the network's trained weights at a time; float32 [p]."""
        if self.fresh is None:
            return self._gradient(t, self.noise)
        noise = torch.randn(self.noise.shape, generator=self.fresh).to(self.noise.device)
        with torch.random.fork_rng():
            torch.manual_seed(int(torch.randint(2**62, (), generator=self.fresh)))
            return self._gradient(t, noise)

    def _extra(self, noise: Tensor) -> Tensor | None:
        """What the objective wants beside the noise: the same for all times."""
        count = self.recipe.training.loss.extra
        generator = torch.Generator().manual_seed(0)
        shape = (len(noise), count, *noise.shape[1:])
        return torch.randn(shape, generator=generator).to(noise.device) if count else None

    def _gradient(self, t: float, noises: Tensor) -> Tensor:
        own = self.denoiser.schedule
        time = min(max(own.t_of_ratio(self.schedule.ratio(t)), own.t_min), own.t_max)
        parameters = [each for each in self.denoiser.network.parameters() if each.requires_grad]
        summed = torch.zeros(sum(each.numel() for each in parameters), device=noises.device)
        with threads_for(network_macs(self.denoiser.network, self.denoiser.shape, MICRO_BATCH)):
            for batch, noise in zip(self.batch.split(MICRO_BATCH), noises.split(MICRO_BATCH), strict=True):
                times = torch.full((len(noise),), time, dtype=torch.float64)
                stages = self.denoiser.partition.at(times, own)
                extra = self._extra(noise)
                draw = Draw(stages, times, self.recipe.weighting.weight(own, times), noise, extra)
                loss = image_losses(self.objective.loss, self.recipe, self.denoiser, batch, draw).sum() / len(noises)
                found = torch.autograd.grad(loss, parameters, materialize_grads=True)
                summed += torch.cat([each.flatten() for each in found])
        return summed


def loss_gradients(
    recipe: Recipe,
    schedule: Schedule,
    source: Callable[[], Source],
    run: Path | None,
    *,
    device: str,
    checkpoints: int,
    iterations: int,
    batch: int,
    seed: int,
    progress: Callable[[int, int], None],
    as_published: bool = False,
) -> Iterator[LossGradient]:
    """The newest checkpoints of a run, oldest first; without a run, of one that is trained for this.

    Args:
        recipe: What is clustered; trained as `unified` where there is no run.
        schedule: Whose times gradients are asked for at.
        source: Opens its data.
        run: A run folder.
        device: Where networks are.
        checkpoints: How many at most.
        iterations: Of the training, where there is no run.
        batch: Images and noises that a gradient is the mean of.
        seed: Of the choice of images and of the noise.
        progress: Told (iterations done, in all) of the training.
        as_published: Whether every time has a noise of its own, and networks drop what they drop in training.

    Raises:
        RunError: The folder is no run, has no checkpoint, or one that is damaged.
        PartError: The run is of a network with stages.
    """
    of_run = functools.partial(
        _of_run,
        schedule=schedule,
        source=source,
        device=device,
        most=checkpoints,
        batch=batch,
        seed=seed,
        as_published=as_published,
    )
    if run is not None:
        yield from of_run(run)
        return
    with tempfile.TemporaryDirectory(prefix="msdk-") as folder:
        place = Path(folder) / "run"
        brief = _unified(recipe, iterations, checkpoints)

        def told(step: Step) -> None:
            progress(step.iteration, step.iterations)

        if train_here(brief, place, device=device, progress=told).interrupted:
            raise KeyboardInterrupt
        yield from of_run(place)


def heeded(recipe: Recipe, condition: Condition) -> Condition:
    """What networks of a recipe take of what images are conditioned on."""
    label, _, text = condition
    reads = recipe.encoder_of(0).info(recipe.shape).text > 0
    return Condition(label if recipe.classes else None, None, text if reads else None)


def _unified(recipe: Recipe, iterations: int, checkpoints: int) -> Recipe:
    """The recipe with one decoder for all times, the one in the middle."""
    training = attrs.evolve(
        recipe.training,
        iterations=iterations,
        checkpoint_every=math.ceil(iterations / checkpoints),
        keep=checkpoints,
        stage_draw="natural",
    )
    middle = len(recipe.decoders) // 2
    return attrs.evolve(
        recipe,
        stages=Stages(),
        encoder=recipe.encoder_of(middle),
        encoders=None,
        decoders=(recipe.decoders[middle],),
        sharing="unified",
        samplers=(),
        sampling=attrs.evolve(recipe.sampling, steps_per_stage=None),
        training=training,
        trackers=(),  # nobody asked to see this training
    )


def _of_run(
    run: Path,
    *,
    schedule: Schedule,
    source: Callable[[], Source],
    device: str,
    most: int,
    batch: int,
    seed: int,
    as_published: bool,
) -> Iterator[LossGradient]:
    recipe = run_recipe(run)
    if len(recipe.decoders) > 1:
        raise PartError(
            f"the run {run} has {len(recipe.decoders)} stages, but gradients are compared in a network for all times: "
            'train one with one decoder and sharing = "unified", and no [stages]'
        )
    latest(run)
    images = source()
    generator = torch.Generator().manual_seed(seed % 2**63)
    picks = torch.randint(len(images), (batch,), generator=generator)
    training_labels(recipe, images)
    denoiser = build(recipe, device).train(as_published)
    picked = images.batch(picks.tolist()).to(device)
    pixels = to_range(picked.images, unit_range=denoiser.unit_range)
    clean = torch.cat([encoded(recipe, denoiser, part) for part in pixels.split(MICRO_BATCH)])
    condition = heeded(recipe, picked.condition)
    noise = torch.randn(clean.shape, generator=generator).to(device)
    for path in checkpoints(run)[-most:]:
        checkpoint = load_checkpoint(path)
        load_weights(denoiser, checkpoint.model, path)
        objective = objective_of(recipe, denoiser)
        put_objective(cast("nn.Module", objective), checkpoint, path)
        fresh = generator if as_published else None
        yield LossGradient(recipe, denoiser, schedule, objective, Batch(clean, condition), noise, fresh)
