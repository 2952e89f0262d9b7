"""How a run begins or goes on: what is wrong is told before a folder is made, changed or replaced."""

import contextlib
import warnings
from collections.abc import Callable
from pathlib import Path

import attrs
import torch

from msdk import __version__, trackers
from msdk.arguments import as_annotated
from msdk.denoiser.building import pick_device, weights_file
from msdk.denoiser.memory import enough_memory
from msdk.distributed import Group, restarted, this_rank, together
from msdk.recipe import Recipe, check_trainable, recipe_of
from msdk.runs import (
    Checkpoint,
    checkpoints,
    latest,
    refuse_existing,
    refuse_other_recipe,
    run_recipe,
    start_run,
    sweep_run,
    use,
    with_autoencoder_of,
    write_recipe,
)
from msdk.runs.checkpoint import keep_newest, rewrite_state
from msdk.runs.resuming import (
    Changed,
    changing,
    jumps,
    refuse_other_data,
    resumed,
    told,
    write_resumed,
)
from msdk.runs.writer import one_writer
from msdk.threads import network_macs, threads_for
from msdk.trackers.base import ALWAYS, Log
from msdk.training.compiling import compilable
from msdk.training.dealing import refuse_uneven
from msdk.training.labels import training_labels
from msdk.training.latents import open_data, refuse_unsuited
from msdk.training.loop import Step, Trainer, TrainingResult
from msdk.training.step import learning_rate
from msdk.training.telling import Shielded

Judge = Callable[[Path, int, Group], object]
"""Judges the checkpoint of an iteration in a run folder; all processes of the group call it."""

PATIENCE = 30.0
"""Minutes that processes wait for each other: all do the same in a step, but the first alone writes."""


@as_annotated
def train(
    recipe: Recipe | str | Path,
    run_dir: str | Path,
    *,
    device: str | None = None,
    resume: bool = False,
    force: bool = False,
    force_data: bool = False,
    progress: Callable[[Step], None] | None = None,
    warn: Callable[[str], None] | None = None,
) -> TrainingResult:
    """Trains a recipe in a run folder, on one device; with the other processes of torchrun, if there are any.

    Ctrl-C (or SIGTERM, or SIGUSR1) finishes the step in hand, saves a checkpoint and returns; a second Ctrl-C stops at
    once. Training 2N steps equals training N, stopping and resuming for N more: on the CPU, bit for bit. So does
    training on any number of processes, up to the order of sums, but for the masks of dropout.

    Args:
        recipe: A recipe, or the file of one. Its stage edges must be known, see `msdk.clustering.with_edges`.
        run_dir: The run folder.
        device: "cpu", "cuda", "cuda:1", ...; CUDA where there is one when not given.
        resume: Go on from the newest checkpoint; begin where there is none. It is so where torchrun has started the
            processes anew (`--max-restarts`).
        force: Replace an existing run folder.
        force_data: Go on although the data are not those that the run was trained on.
        progress: Told after every step.
        warn: Told, in sentences, what is different where training goes on: a learning rate that jumps, other versions,
            other data. They are warnings of Python's by default.

    Raises:
        RunError: The folder exists, belongs to another recipe or other data, is being written by another process, or
            cannot be written; or its checkpoint does not fit or is damaged; or the loss or a weight is not finite; or
            checkpoints cannot hold what is trained; or another process of the run ended, or has other data.
        PartError: Parts do not suit the objective, or the schedule is for sampling only, or the batch does not go
            round the processes.
        DataError: The data cannot be read, or lacks the classes that the encoder takes.
    """
    with together(this_rank()) as group:
        return train_here(
            recipe_of(recipe),
            run_dir,
            device=device,
            resume=resume,
            force=force,
            force_data=force_data,
            progress=progress,
            warn=warn,
            group=group,
        )


def train_here(
    recipe: Recipe,
    run_dir: str | Path,
    *,
    device: str | None = None,
    resume: bool = False,
    force: bool = False,
    force_data: bool = False,
    progress: Callable[[Step], None] | None = None,
    warn: Callable[[str], None] | None = None,
    furnish: Callable[[Path], None] | None = None,
    judge: Judge | None = None,
    group: Group | None = None,
) -> TrainingResult:
    """`train`, for the processes of a group; without one for a process whose fellows have run folders of their own.

    `furnish` puts more into a new run folder, before it is there; `judge` is what `training.evaluate_every` calls.
    """
    run, group = Path(run_dir), (group or Group()).patient(PATIENCE)
    resume = group.any(resume or restarted() > 0)
    how = _How(resume, force, force_data, warn or _warned, furnish or (lambda folder: None))
    device = group.rank.device(pick_device(device))
    with contextlib.ExitStack() as opened:
        writing = one_writer(run) if group.rank.first else contextlib.nullcontext()
        group.agreed(lambda: opened.enter_context(writing))
        goes_on = resume and bool(checkpoints(run))  # without a checkpoint there is nothing to lose
        trainer, checkpoint, changed = group.agreed(
            lambda: _ready(recipe, run, device, how, opened, group, goes_on=goes_on)
        )
        newest = latest(run).name if goes_on else ""
        digest = trainer.feed.source.digest
        for what, value in (
            ("data", digest),
            ("msdk", __version__),
            ("torch", torch.__version__),
            ("newest checkpoint", newest),
            ("init.run", "" if trainer.start is None else trainer.start.origin["sha256"]),
        ):
            group.same(what, value)
        group.agreed(lambda: _begin(trainer, how, checkpoint, changed))
        recipe, options = trainer.recipe, trainer.recipe.training
        network = trainer.step.denoiser.network
        images = options.batch_size // options.accumulation // group.rank.count
        fix = "raise training.accumulation, set training.recompute to true, or lower training.batch_size"
        compiling = compilable() if options.compile else contextlib.nullcontext()
        threads = threads_for(network_macs(network, recipe.shape, images))
        with threads, enough_memory("a training step does", fix), compiling:
            return trainer.run(progress or (lambda step: None), judge)


def _warned(text: str) -> None:
    warnings.warn(text, stacklevel=2)


@attrs.frozen
class _How:
    """How to begin, see `train_here`."""

    resume: bool
    force: bool
    force_data: bool
    warn: Callable[[str], None]
    furnish: Callable[[Path], None]


def _ready(
    recipe: Recipe,
    run: Path,
    device: str,
    how: _How,
    opened: contextlib.ExitStack,
    group: Group,
    *,
    goes_on: bool,
) -> tuple["Trainer", Checkpoint | None, Changed]:
    """A trainer, and what it goes on from; what is wrong is told here, before a folder is made, changed or replaced."""
    recipe = recipe.with_partition(recipe.partition())
    if group.rank.first:
        refuse_existing(run, force=how.force, resume=how.resume)
    refuse_uneven(recipe.training.batch_size, recipe.training.accumulation, group.rank)
    changed = refuse_other_recipe(run, recipe) if goes_on else {}
    recipe = with_autoencoder_of(recipe, run) if goes_on else recipe
    if recipe.autoencoder is not None:
        weights_file(recipe.autoencoder)  # told before anything slow
    check_trainable(recipe)
    refuse_unsuited(recipe)
    source = open_data(recipe)
    if goes_on:
        refuse_other_data(run, recipe, source.digest, force=how.force_data)
    training_labels(recipe, source)
    logs: list[Log] = []
    for spec in (*(trackers.get(f"msdk:{name}")() for name in ALWAYS), *recipe.trackers) if group.rank.first else ():
        log = spec.open(run, recipe)
        logs.append(Shielded(spec, log, how.warn) if spec in recipe.trackers else log)
        opened.callback(logs[-1].close)
    trainer = Trainer(recipe, run, source, logs, device, group, begins=not goes_on)
    if not goes_on:
        return trainer, None, changed
    return trainer, changing(run, use(latest(run), trainer.checked), changed), changed


def _begin(trainer: "Trainer", how: _How, checkpoint: Checkpoint | None, changed: Changed) -> None:
    """Brings the folder, which the first process alone writes, and the trainer to where the run begins or goes on."""
    run, recipe, digest = trainer.run_dir, trainer.recipe, trainer.feed.source.digest
    if trainer.group.rank.first:
        if checkpoint is not None:
            if checkpoint.before[0] == checkpoint.iteration and changed:
                rewrite_state(checkpoint, latest(run))  # first, so that a process that is killed here loses nothing
            for sentence in _go_on(run, recipe, checkpoint.iteration, digest, changed):
                how.warn(sentence)
        else:
            start_run(
                run,
                recipe,
                force=how.force or how.resume,
                data_digest=digest,
                class_names=trainer.feed.source.class_names if recipe.classes else None,
                protocol=trainer.feed.source.protocol,
                started_from=None if trainer.start is None else trainer.start.origin,
                furnish=how.furnish,
            )
            for sentence in () if trainer.start is None else trainer.start.told:
                how.warn(sentence)
    if checkpoint is not None:
        trainer.restore(checkpoint)


def _go_on(run: Path, recipe: Recipe, at: int, digest: str, changed: Changed) -> list[str]:
    """Notes in a folder that its run goes on from an iteration; what is different from there on, in sentences."""
    what = resumed(run, recipe, digest, at, changed)
    before, last = run_recipe(run).training, max(at - 1, 0)
    was, now = (learning_rate(each, last) for each in (before, recipe.training))
    jump = jumps(was, now, at, changed, scheduled=recipe.training.lr_schedule is not None)
    sentences = [*told(what, run), *jump]
    sweep_run(run)
    keep_newest(run, recipe.training.keep)  # a process may have been killed between writing one and removing another
    write_resumed(run, recipe, digest, what)
    write_recipe(run, recipe)
    return sentences
