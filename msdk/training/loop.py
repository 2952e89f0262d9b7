"""The training loop: the only one."""

import contextlib
import math
import signal
import threading
import time
from collections.abc import Callable, Generator, Sequence
from pathlib import Path
from types import FrameType
from typing import Any

import attrs
import torch
from torch import Tensor

from msdk.datasets.base import Source
from msdk.denoiser.building import build
from msdk.distributed import Group
from msdk.errors import ElsewhereError, RunError, RunFaultError
from msdk.recipe import Recipe, unseen
from msdk.registry.describing import in_words
from msdk.registry.faults import whose
from msdk.runs import (
    Checkpoint,
    checkpoints,
    load_checkpoint,
    save_checkpoint,
)
from msdk.runs.metrics import last_numbers
from msdk.runs.resuming import (
    expected_images,
)
from msdk.runs.shards import save_shards
from msdk.runs.snapshots import save_snapshot
from msdk.runs.starting import start_of
from msdk.runs.watched import Watched
from msdk.trackers.base import Log, Numbers
from msdk.training.compiling import compile_parts
from msdk.training.diagnosis import culprit
from msdk.training.drawing import Feed, Work
from msdk.training.latents import refuse_unsampled
from msdk.training.sheets import kept_sheet, save_sheet
from msdk.training.starting import put_start
from msdk.training.state import check, checkpoint_of, refuse_unsavable, restore, sick, snapshot_of
from msdk.training.step import TrainingStep, in_training
from msdk.training.vitals import memory
from msdk.training.watching import Watch

Judge = Callable[[Path, int, Group], object]
"""Judges the checkpoint of an iteration in a run folder; all processes of the group call it."""


@attrs.frozen
class Step:
    """How far training is. The losses are those of the last line of metrics.jsonl.

    Attributes:
        iteration: Optimiser steps done.
        iterations: Optimiser steps in all.
        images_per_second: Since training started or resumed.
        loss: Mean loss, nan before the first line.
        loss_by_stage: Mean loss of each stage; nan where it saw no image.
        logged: The iteration of that line; 0 before the first one of this process.
        held_out_by_stage: Losses of the last look at held-out images; nan before the first one of this process.
    """

    iteration: int
    iterations: int
    images_per_second: float
    loss: float
    loss_by_stage: tuple[float, ...]
    logged: int = 0
    held_out_by_stage: tuple[float, ...] = ()


@attrs.frozen
class TrainingResult:
    """What training left behind.

    Attributes:
        run_dir: The run folder.
        last: The last step.
        images_by_stage: Images that each stage has seen, since the first step.
        seconds: Time spent training, since the first step.
        interrupted: The signal that ended it early, 0 where it ran to its end.
        warnings: Sentences on what training did not do, such as stages that saw no image.
        reading: How images were read, in words, where they do not lie in memory.
        watched: What those took and did who watched the training; None where nobody did.
        expected_by_stage: Images that each stage was expected to see.
    """

    run_dir: Path
    last: Step
    images_by_stage: tuple[int, ...]
    seconds: float
    interrupted: int
    warnings: tuple[str, ...] = ()
    reading: str = ""
    watched: Watched | None = None
    expected_by_stage: tuple[float, ...] = ()

    @property
    def stops(self) -> list[str]:
        """Sentences on the stages that held-out losses stopped."""
        frozen = () if self.watched is None else self.watched.frozen
        return [
            f"stage {stage} has had the weights of its best look at held-out images since iteration {at:,}"
            for stage, at in enumerate(frozen)
            if at is not None
        ]


class Trainer:
    """A run in hand: its step, what feeds it, how far it is, and the trackers that tell of it.

    Processes that share a run are at the same step, with the same weights. The first one alone writes.

    Args:
        recipe: Its stage edges are known, and its parts suit each other.
        run: The run folder.
        source: Of its images.
        logs: The opened trackers; none but in the first process.
        device: Where to train.
        group: The processes that share the run; this one alone when not given.
        begins: Whether the recipe's `init` is taken up.

    Attributes:
        start: What was taken of it; None where nothing was.
    """

    def __init__(
        self,
        recipe: Recipe,
        run: Path,
        source: Source,
        logs: Sequence[Log],
        device: str,
        group: Group | None = None,
        *,
        begins: bool = False,
    ) -> None:
        self.recipe, self.run_dir, self.logs, self.group = recipe, run, logs, group or Group()
        denoiser = in_training(build(recipe, device))
        if denoiser.autoencoder is not None:
            refuse_unsampled(recipe, denoiser.autoencoder)
        self.start = start_of(recipe, denoiser.network) if begins and recipe.init is not None else None
        if recipe.training.compile:
            compile_parts(denoiser.network)  # before weights are cut into rows, which adds hooks
        self.step = TrainingStep(recipe, denoiser, self.group)
        refuse_unsavable(self.step)  # now, not hours later
        if self.start is not None:
            put_start(self.step, self.start)
            self.start = attrs.evolve(self.start, ema={}, optimizer={})  # they are in their places
        self.feed = Feed(recipe, self.step.denoiser, source, self.group.rank)
        self.watch = Watch(recipe, self.step, self.feed, self.group)
        self.iteration, self.seconds, self.waited = 0, 0.0, 0.0
        self.images_by_stage = [0] * len(recipe.decoders)
        self.loss, self.loss_by_stage, self.logged = math.nan, (math.nan,) * len(recipe.decoders), 0
        self.untold: tuple[tuple[float, ...], tuple[int, ...]] = ((), ())

    def run(self, progress: Callable[[Step], None], judge: Judge | None = None) -> TrainingResult:
        """Steps until the recipe's number of them is done, or a signal comes."""
        options = self.recipe.training
        begun, at_start, spent = time.perf_counter(), self.iteration, self.seconds
        sums = torch.zeros(len(self.images_by_stage), dtype=torch.float64, device=self.feed.device)
        counts = torch.zeros(len(self.images_by_stage), dtype=torch.int64)
        if any(self.untold):
            counts += torch.tensor(self.untold[1])
            sums += torch.tensor(self.untold[0], dtype=sums.dtype, device=sums.device) * self.group.rank.first
        last = self._at(0.0)
        with _stoppable() as stopped, torch.random.fork_rng(), self.feed.reader:

            def signum() -> int:
                return stopped[0] if stopped else 0

            done, answer = self.iteration >= options.iterations or self.watch.ended, signum
            while not done:
                # Asked before a step and answered after it, so that all processes stop at the same one.
                answer = self.group.vote(signum)
                work, values = self.advance()
                sums.index_add_(0, work.draw.stages.to(sums.device, non_blocking=True), values.double())
                counts += torch.bincount(work.stages, minlength=len(counts))
                self.seconds = spent + time.perf_counter() - begun
                rate = (self.iteration - at_start) * options.batch_size / max(self.seconds - spent, 1e-9)
                look = self.watch.due(self.iteration)
                found = self.watch.look(self.iteration, self.images_by_stage) if look else {}
                self._sheet()
                done = self.iteration == options.iterations or self.watch.ended or bool(answer())
                due = look or self.iteration % options.log_every == 0
                if due or done:
                    self._log(sums, counts, rate, found)
                if due:
                    sums.zero_()
                    counts.zero_()
                if options.snapshot_every and self.iteration % options.snapshot_every == 0:
                    self._snapshot()
                judged = judge is not None and options.evaluate_every and self.iteration % options.evaluate_every == 0
                if self.iteration % options.checkpoint_every == 0 or judged or done:
                    self._refuse_sick(sums, counts)
                    self._save()
                if judge is not None and judged:
                    paused = time.perf_counter()
                    judge(self.run_dir, self.iteration, self.group)
                    begun += time.perf_counter() - paused  # it is no time of training
                last = self._at(rate)
                progress(last)
            interrupted = answer()
        idle = tuple(unseen(self.recipe, self.images_by_stage))
        how = self.feed.reader.told()
        seen, kept = tuple(self.images_by_stage), self.watch.kept if self.watch.used else None
        expected = tuple(self.expected())
        return TrainingResult(self.run_dir, last, seen, self.seconds, interrupted, idle, how, kept, expected)

    def _at(self, rate: float) -> Step:
        iterations, held = self.recipe.training.iterations, tuple(self.watch.losses)
        return Step(self.iteration, iterations, rate, self.loss, self.loss_by_stage, self.logged, held)

    def _save(self) -> None:
        def save() -> None:
            if self.group.rank.first:
                save_checkpoint(self.run_dir, self.state(), self.recipe.training.keep)

        if self.step.sharded:
            save_shards(self.run_dir, self.state(), self.recipe.training.keep, self.group)
        else:
            self.group.agreed(save)

    def _snapshot(self) -> None:
        """Keeps the averages as they are now."""
        kept = snapshot_of(self.step) if self.step.sharded or self.group.rank.first else {}
        self.group.agreed(lambda: save_snapshot(self.run_dir, self.iteration, kept) if self.group.rank.first else None)

    def _sheet(self) -> None:
        """Draws a contact sheet where one is due, keeps it, and shows it to the trackers."""
        sheet = self.watch.sheet(self.iteration)
        if sheet is not None:
            at, first = self.iteration, self.group.rank.first
            self.group.agreed(lambda: save_sheet(self.run_dir, at, sheet) if first else None)
            for log in self.logs:
                log.image("samples", at, sheet)

    def advance(self) -> tuple[Work, Tensor]:
        """One step: what it did, and the losses of its images, on the device."""
        options, after = self.recipe.training, self.iteration + 1
        told = after % options.log_every == 0 or after == options.iterations or self.watch.due(after)
        self.step.measures = told
        work = self.feed(self.iteration)
        images = torch.bincount(work.stages, minlength=len(self.images_by_stage)).tolist()
        self.step.images = images
        values = self.step(work.batch, work.draw, self.iteration, work.hand)
        self.iteration += 1
        if self.iteration == 1:
            self.state()  # what the optimiser keeps and checkpoints cannot hold is told at once
        for stage, seen in enumerate(images):
            self.images_by_stage[stage] += seen
        return work, values

    def _log(self, sums: Tensor, counts: Tensor, rate: float, found: Numbers) -> None:
        """Tells the trackers, also what a look found. Waits for the device, so it is done every `log_every` steps."""
        sums = self.group.total(sums.cpu())
        means = sums / counts
        self.loss = float(sums.sum()) / max(int(counts.sum()), 1)
        self.loss_by_stage, self.logged = tuple(means.tolist()), self.iteration
        if not math.isfinite(self.loss):
            raise self._diverged(f"the loss is {self.loss}")
        numbers: dict[str, Any] = {
            "images": sum(self.images_by_stage),
            "loss": self.loss,
            "loss_by_stage": [None if math.isnan(value) else value for value in self.loss_by_stage],
            "images_by_stage": list(self.images_by_stage),
            "expected_images_by_stage": self.expected(),
            "lr": self.step.optimizer.param_groups[0]["lr"],
            "images_per_second": rate,
            "seconds": self.seconds,
            "gradient_norm": self.step.gradient_norm(),
            **({} if self.step.shared is None else self.step.shared.told()),
            "data_seconds": self.feed.reader.waited - self.waited,
            **memory(self.feed.device),
            **found,
            **self.watch.counts(),
        }
        self.waited = self.feed.reader.waited
        if self.step.scaler is not None:
            numbers["loss_scale"] = self.step.scaler.get_scale()
        for log in self.logs:
            log.log(self.iteration, numbers)

    def _refuse_sick(self, sums: Tensor, counts: Tensor) -> None:
        """Raises `RunError` where a checkpoint would keep what is not finite. Waits for the device."""
        sums = self.group.total(sums.cpu())
        if not math.isfinite(float(sums.sum())):
            raise self._diverged("the loss is not finite")
        self.untold = (tuple(sums.tolist()), tuple(counts.tolist())) if counts.any() else ((), ())
        found = sick(self.step)
        if found:
            raise self._diverged(f"{', '.join(found[:3])}{', ...' if len(found) > 3 else ''}: not finite")

    def _diverged(self, what: str) -> RunError:
        if not self.group.rank.first:
            return ElsewhereError(what)  # it is the same in all processes, and the first one tells it
        found = checkpoints(self.run_dir)
        kept = f"{found[-1]} is from before, and finite" if found else "No checkpoint was saved before"
        recipe, options = self.recipe, self.recipe.training
        # Read again; a rate that is not finite shows in the loss of the step that follows.
        since = range(max(self.iteration - min(options.log_every, 100) - 1, 0), self.iteration)
        part = culprit(recipe, self.feed, since)
        who = whose(type(part))
        if who is not None:
            told = f"{what} at iteration {self.iteration}: {in_words(part)} gives numbers that are not finite. {kept}"
            return RunFaultError(told, who)
        makers = (*recipe.built_encoders, *recipe.decoders, options.loss, options.optimizer)
        foreign = dict.fromkeys(in_words(each) for each in makers if whose(type(each)))
        suspects = f". If that is not it, look at {' and '.join(foreign)}" if foreign else ""
        return RunError(f"{what} at iteration {self.iteration}: lower training.lr or clip_norm. {kept}{suspects}")

    def state(self) -> Checkpoint:
        """What a checkpoint keeps."""
        return checkpoint_of(
            self.step,
            iteration=self.iteration,
            images_by_stage=self.images_by_stage,
            seconds=self.seconds,
            untold=self.untold,
            watched=self.watch.kept if self.watch.used else None,
            before=self.feed.before,
            best=self.watch.best(),
        )

    def expected(self) -> list[float]:
        """The images of each stage that were expected until now."""
        return expected_images(self.recipe, self.feed.before, self.iteration)

    def checked(self, source: Path) -> Checkpoint:
        """A checkpoint that training can go on from.

        Raises:
            RunError: It is damaged, not finite, or of another recipe.
        """
        checkpoint = load_checkpoint(source)
        check(self.step, checkpoint, source)
        self.watch.check(checkpoint, source)
        return checkpoint

    def restore(self, checkpoint: Checkpoint) -> None:
        """Takes training up where a checkpoint left it; trackers forget what they were told after it."""
        restore(self.step, checkpoint)
        self.iteration, self.seconds = checkpoint.iteration, checkpoint.seconds
        self.images_by_stage, self.untold = list(checkpoint.images_by_stage), checkpoint.untold
        self.feed.before = checkpoint.before
        # A line that was told because training stopped is not due: the next one has its images, as if it had not.
        early = any(self.untold) and self.iteration < self.recipe.training.iterations
        sheet = kept_sheet(self.run_dir, self.iteration) if early and self.logs else None
        for log in self.logs:
            log.rewind(self.iteration - early)
            if sheet is not None:  # which was due, and is drawn no more
                log.image("samples", self.iteration, sheet)
        self.watch.restore(checkpoint)
        told = last_numbers(self.run_dir)
        if told is not None:
            self.loss, self.loss_by_stage = told


STOPPING = (signal.SIGINT, signal.SIGTERM, *([signal.SIGUSR1] if hasattr(signal, "SIGUSR1") else []))
"""What ends training in time: Ctrl-C, and the warnings of schedulers."""


@contextlib.contextmanager
def _stoppable() -> Generator[list[int]]:
    """A list that the first of these signals fills; Ctrl-C after it ends the program as usual.

    Schedulers say theirs more than once: Slurm to each process and to torchrun, which passes it on, and SIGTERM after
    SIGUSR1. That says nothing new, and must not end a process that is saving.
    """
    caught: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield caught  # only the main thread may handle signals
        return

    def catch(signum: int, frame: FrameType | None) -> None:
        if caught and signum == signal.SIGINT:
            raise KeyboardInterrupt
        caught.append(signum)

    before = {int(signum): signal.signal(signum, catch) for signum in STOPPING}
    try:
        yield caught
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler)
