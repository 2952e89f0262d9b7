"""The training loop: the only one."""

import json
import math
import signal
import threading
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import attrs
import torch
from torch import Tensor

from msdk.budgeting import Budget, budget
from msdk.budgeting.ledger import ledger
from msdk.datasets.base import Source
from msdk.denoiser import Denoiser
from msdk.denoiser.building import build, pick_device, weights_file
from msdk.errors import RunError
from msdk.recipe import Recipe
from msdk.runs import (
    Checkpoint,
    latest,
    load_checkpoint,
    load_weights,
    refuse_existing,
    refuse_other_recipe,
    save_checkpoint,
    start_run,
    with_autoencoder_of,
    write_recipe,
)
from msdk.runs.files import append_text, write_json, write_text
from msdk.training.augmentation import draw_changes
from msdk.training.ema import EMA, halving, ramped
from msdk.training.labels import training_labels, withheld
from msdk.training.loss import batch_indices, draw_times, encoded, flipped, losses, mixed_seed, to_range


@attrs.frozen
class Step:
    """How far training is. The losses are those of the last line of metrics.jsonl.

    Attributes:
        iteration: Optimiser steps done.
        iterations: Optimiser steps in all.
        images_per_second: Since training started or resumed.
        loss: Mean loss, nan before the first line.
        loss_by_stage: Mean loss of each stage; nan where it saw no image.
    """

    iteration: int
    iterations: int
    images_per_second: float
    loss: float
    loss_by_stage: tuple[float, ...]


@attrs.frozen
class TrainingResult:
    """What training left behind.

    Attributes:
        run_dir: The run folder.
        last: The last step.
        images_by_stage: Images that each stage has seen, since the first step.
        seconds: Time spent training, since the first step.
        interrupted: The signal that ended it early, 0 where it ran to its end.
    """

    run_dir: Path
    last: Step
    images_by_stage: tuple[int, ...]
    seconds: float
    interrupted: int


def train(
    recipe: Recipe,
    run_dir: str | Path,
    *,
    device: str | None = None,
    resume: bool = False,
    force: bool = False,
    progress: Callable[[Step], None] | None = None,
) -> TrainingResult:
    """Trains a recipe on one device, in a run folder.

    Ctrl-C (or SIGTERM) finishes the step in hand, saves a checkpoint and returns; a second one stops at once.
    Training 2N steps equals training N, stopping and resuming for N more: on the CPU, bit for bit.

    Args:
        recipe: Its stage edges must be known, see `msdk.cluster`.
        run_dir: The run folder.
        device: "cpu", "cuda", "cuda:1", ...; CUDA where there is one when not given.
        resume: Go on from the newest checkpoint.
        force: Replace an existing run folder.
        progress: Told after every step.

    Raises:
        RunError: The folder exists, belongs to another recipe, or cannot be written; or the loss is not finite.
        DataError: The data cannot be read, or lacks the classes that the encoder takes.
    """
    run, device = Path(run_dir), pick_device(device)
    recipe = recipe.with_partition(recipe.partition())
    if resume:
        refuse_other_recipe(run, recipe)
        recipe = with_autoencoder_of(recipe, run)
    else:
        refuse_existing(run, force=force)
    if recipe.autoencoder is not None:
        weights_file(recipe.autoencoder)  # told before anything slow
    source = recipe.data.open()
    training_labels(recipe, source)  # what is wrong with them is told before a run folder is made
    costs = budget(recipe, convention="exact")
    trainer = Trainer(recipe, run, source, costs, device)  # what cannot be built is told before a folder is replaced
    if resume:
        write_recipe(run, recipe)
        trainer.restore(load_checkpoint(latest(run)), latest(run))
    else:
        start_run(run, recipe, force=force, data_digest=source.digest)
    return trainer.run(progress or (lambda step: None))


class Trainer:
    """A denoiser in training: networks, optimiser, averages, and the files that tell of them."""

    def __init__(self, recipe: Recipe, run: Path, source: Source, costs: Budget, device: str) -> None:
        self.recipe, self.run_dir, self.source, self.costs, self.device = recipe, run, source, costs, device
        # Convolutions run faster with channels last, on CPUs and on tensor cores alike.
        self.denoiser: Denoiser = build(recipe, device).train().to(memory_format=torch.channels_last)
        options = recipe.training
        self.denoiser.network.set_recompute(options.recompute)
        self.labels = training_labels(recipe, source)
        self.augment_labels = recipe.encoder.info(recipe.shape).augment > 0
        self.optimizer = options.rule.build(list(self.denoiser.network.parameters()), options.lr)
        half_life, ramp = options.ema_half_life, options.ema_ramp
        decay = halving(half_life, ramp, options.batch_size) if half_life else ramped(options.ema_decay)
        self.ema = EMA(self.denoiser.network, decay)
        self.iteration = 0
        self.images_by_stage = [0] * len(recipe.decoders)
        self.seconds = 0.0
        self.loss_by_stage = tuple([math.nan] * len(recipe.decoders))
        self.loss = math.nan

    def run(self, progress: Callable[[Step], None]) -> TrainingResult:
        options = self.recipe.training
        begun, at_start, spent = time.perf_counter(), self.iteration, self.seconds
        sums = torch.zeros(len(self.recipe.decoders), dtype=torch.float64, device=self.device)
        counts = torch.zeros(len(self.recipe.decoders), dtype=torch.int64)
        last = Step(self.iteration, options.iterations, 0.0, self.loss, self.loss_by_stage)
        with _stoppable() as stopped, torch.random.fork_rng():
            done = self.iteration >= options.iterations
            while not done:
                stages, values = self._step()
                sums.index_add_(0, stages.to(self.device, non_blocking=True), values.double())
                counts += torch.bincount(stages, minlength=len(counts))
                self.seconds = spent + time.perf_counter() - begun
                rate = (self.iteration - at_start) * options.batch_size / max(self.seconds - spent, 1e-9)
                # A signal that comes from here on lets one more step pass, so that the last one is always saved.
                done = self.iteration == options.iterations or bool(stopped)
                if self.iteration % options.log_every == 0 or done:
                    self._log(sums, counts, rate)
                    sums.zero_()
                    counts.zero_()
                if self.iteration % options.checkpoint_every == 0 or done:
                    save_checkpoint(self.run_dir, self.state(), options.keep)
                last = Step(self.iteration, options.iterations, rate, self.loss, self.loss_by_stage)
                progress(last)
        signum = stopped[0] if stopped else 0
        return TrainingResult(self.run_dir, last, tuple(self.images_by_stage), self.seconds, signum)

    def _step(self) -> tuple[Tensor, Tensor]:
        """One optimiser step: the stage and the loss of every image."""
        options = self.recipe.training
        # Every random number of a step follows from the seed and the step, so a resumed run repeats nothing and skips
        # nothing, whatever the device.
        torch.manual_seed(mixed_seed(options.seed, "noise", self.iteration))
        generator = self._generator("draw")
        first = self.iteration * options.batch_size
        indices = batch_indices(first, options.batch_size, len(self.source), options.seed)
        images = self.source.read(indices)
        if options.flip:
            images = flipped(images, generator)
        draw = draw_times(self.recipe, self.denoiser, options.batch_size, generator)
        images = images.to(self.device, memory_format=torch.channels_last, non_blocking=True)
        images, augment = self._augmented(to_range(images, unit_range=self.denoiser.unit_range))
        noise = torch.empty(
            len(images), *self.denoiser.shape, device=self.device, memory_format=torch.channels_last
        ).normal_()
        # An idle decoder keeps no gradient, so Adam leaves it alone. Old gradients go before activations come.
        self.optimizer.zero_grad(set_to_none=True)
        size = options.batch_size // options.accumulation
        drawn = (images, noise, draw.times, self._labels(indices), augment)
        nothing = (None,) * options.accumulation
        parts = zip(*(nothing if whole is None else whole.split(size) for whole in drawn), strict=True)
        values = torch.cat([self._backward(*part) for part in parts])
        if options.sanitize:
            for parameter in self.denoiser.network.parameters():
                if parameter.grad is not None:
                    parameter.grad.nan_to_num_(nan=0.0, posinf=1e5, neginf=-1e5)
        if options.clip_norm:
            torch.nn.utils.clip_grad_norm_(self.denoiser.network.parameters(), options.clip_norm)
        rate = options.lr * min((self.iteration + 1) / max(options.warmup, 1), 1.0)
        if options.lr_schedule is not None:
            rate *= options.lr_schedule.factor(self.iteration, options.iterations)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.step()
        self.iteration += 1
        self.ema.update(self.iteration)
        if self.iteration == 1:
            self.state()  # what checkpoints cannot hold is told now, not hours later
        for stage, seen in enumerate(torch.bincount(draw.stages, minlength=len(self.images_by_stage)).tolist()):
            self.images_by_stage[stage] += seen
        return draw.stages, values

    def _backward(
        self, images: Tensor, noise: Tensor, times: Tensor, label: Tensor | None, augment: Tensor | None
    ) -> Tensor:
        """Adds the gradients of a micro-batch to those of its step; the loss of every image."""
        x_0 = encoded(self.recipe, self.denoiser, images)
        values = losses(self.recipe, self.denoiser, x_0, times, label, augment, noise)
        # Micro-batches are of one size, so the mean of their means is the step's.
        (values.mean() / self.recipe.training.accumulation).backward()
        return values.detach()

    def _labels(self, indices: Sequence[int]) -> Tensor | None:
        """The classes of the images that a step reads, some withheld; None for a model without classes."""
        if self.labels is None:
            return None
        options = self.recipe.training
        labels = withheld(self.labels[list(indices)], options.label_dropout, self._generator("label"))
        return labels.to(self.device, non_blocking=True)

    def _augmented(self, images: Tensor) -> tuple[Tensor, Tensor | None]:
        """The images of a step after augmentation, and the labels of it for an encoder that takes them."""
        options = self.recipe.training
        if not options.augment:
            return images, None
        changes = draw_changes(len(images), options.augment, self._generator("augment"))
        labels = changes.labels().to(self.device, non_blocking=True) if self.augment_labels else None
        return changes.apply(images), labels

    def _generator(self, purpose: str) -> torch.Generator:
        """Random numbers of one step for one purpose, so that none depends on whether another one is drawn."""
        return torch.Generator().manual_seed(mixed_seed(self.recipe.training.seed, purpose, self.iteration))

    def _log(self, sums: Tensor, counts: Tensor, rate: float) -> None:
        """One line of metrics.jsonl, and the ledger. Waits for the device, so it is done every `log_every` steps."""
        means = sums.cpu() / counts
        self.loss = float(sums.sum()) / max(int(counts.sum()), 1)
        self.loss_by_stage = tuple(means.tolist())
        if not math.isfinite(self.loss):
            raise RunError(
                f"the loss is {self.loss} at iteration {self.iteration}: lower training.lr or clip_norm. The newest "
                f"checkpoint in {self.run_dir} is from before"
            )
        line = {
            "iteration": self.iteration,
            "images": sum(self.images_by_stage),
            "loss": self.loss,
            "loss_by_stage": [None if math.isnan(value) else value for value in self.loss_by_stage],
            "images_by_stage": list(self.images_by_stage),
            "lr": self.optimizer.param_groups[0]["lr"],
            "images_per_second": rate,
            "seconds": self.seconds,
        }
        append_text(self.run_dir / "metrics.jsonl", json.dumps(line) + "\n")
        found = ledger(self.costs, self.images_by_stage, self.iteration, self.recipe)
        write_json(self.run_dir / "ledger.json", found.as_json())

    def state(self) -> Checkpoint:
        """What a checkpoint keeps."""
        moments: dict[str, Tensor] = {}
        numbers: dict[str, float] = {}
        for name, parameter in self.denoiser.network.named_parameters():
            for moment, value in self.optimizer.state.get(parameter, {}).items():
                if isinstance(value, Tensor):
                    moments[f"{moment}/{name}"] = value
                elif isinstance(value, (int, float)):
                    numbers[f"{moment}/{name}"] = value
                elif value is not None:
                    raise RunError(
                        f"the optimiser keeps '{moment}' of a weight as {type(value).__name__}, which checkpoints do "
                        "not hold: use another training.optimizer"
                    )
        groups = [_numbers(group) for group in self.optimizer.param_groups]
        return Checkpoint(
            iteration=self.iteration,
            images_by_stage=tuple(self.images_by_stage),
            model=self.denoiser.network.state_dict(),
            ema=self.ema.state_dict(),
            optimizer=moments,
            optimizer_numbers={"state": numbers, "groups": groups},
            seconds=self.seconds,
        )

    def restore(self, checkpoint: Checkpoint, source: Path) -> None:
        """Takes training up where a checkpoint left it, and forgets the lines that were logged after it."""
        load_weights(self.denoiser, checkpoint.model, source)
        self.ema.load(checkpoint.ema)
        parameters = dict(self.denoiser.network.named_parameters())
        for key, value in checkpoint.optimizer.items():
            moment, _, name = key.partition("/")
            parameter = parameters[name]
            # Fused Adam walks weights and moments by memory, so they must have one layout.
            like = parameter if value.shape == parameter.shape else value
            kept = torch.empty_like(like, dtype=value.dtype, device=self.device).copy_(value)
            self.optimizer.state[parameter][moment] = kept
        for key, value in checkpoint.optimizer_numbers.get("state", {}).items():
            moment, _, name = key.partition("/")
            self.optimizer.state[parameters[name]][moment] = value
        for group, saved in zip(
            self.optimizer.param_groups, checkpoint.optimizer_numbers.get("groups", ()), strict=False
        ):
            for key, value in saved.items():
                group[key] = torch.tensor(value[0], device=self.device) if isinstance(value, list) else value
        self.iteration, self.seconds = checkpoint.iteration, checkpoint.seconds
        self.images_by_stage = list(checkpoint.images_by_stage)
        metrics = self.run_dir / "metrics.jsonl"
        if metrics.is_file():
            lines = metrics.read_text(encoding="utf-8").splitlines(keepends=True)
            write_text(metrics, "".join(line for line in lines if _iteration(line) <= self.iteration))


def _numbers(group: Mapping[str, Any]) -> dict[str, Any]:
    """What an optimiser counts for a group of weights; a number in a tensor is a list of one."""
    found: dict[str, Any] = {}
    for key, value in group.items():
        if isinstance(value, (int, float)) and key != "lr":
            found[key] = value
        elif isinstance(value, Tensor) and value.ndim == 0:
            found[key] = [value.item()]
    return found


def _iteration(line: str) -> float:
    try:
        return json.loads(line)["iteration"]
    except (ValueError, KeyError):
        return math.inf  # a line that a crash cut short


@contextmanager
def _stoppable() -> Generator[list[int]]:
    """A list that the first SIGINT or SIGTERM fills; the second one ends the program as usual."""
    caught: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield caught  # only the main thread may handle signals
        return

    def catch(signum: int, frame: FrameType | None) -> None:
        if caught:
            raise KeyboardInterrupt
        caught.append(signum)

    before = {int(signum): signal.signal(signum, catch) for signum in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield caught
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler)
