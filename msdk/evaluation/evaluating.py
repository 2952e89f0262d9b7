"""`msdk evaluate`: from a run, or from images, to scores in its folder."""

import contextlib
import re
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import attrs
import torch
from torch import Tensor

from msdk.arguments import as_annotated
from msdk.datasets.base import Dataset, Source
from msdk.denoiser import Denoiser
from msdk.denoiser.building import pick_device
from msdk.distributed import Group, this_rank, together
from msdk.errors import MsdkError, RunError
from msdk.evaluation.asked import Asked
from msdk.evaluation.extracting import extract, pieces
from msdk.evaluation.fitting import fitting
from msdk.evaluation.references import key_of, looked_at_all, place_of, ready, rows_of, stamp_of
from msdk.evaluation.scores import (
    FOLDER,
    Scores,
    read_scores,
)
from msdk.evaluation.scoring import scored_by
from msdk.evaluation.stamping import cost_of, images_stamp, notes_of, request, versions
from msdk.evaluation.task import Task, task_of
from msdk.extractors.base import Extractor
from msdk.metrics.base import Metric
from msdk.recipe import Recipe
from msdk.runs import load_run
from msdk.runs.evaluations import note_costs
from msdk.runs.files import remove_whole, sweep, write_json, write_text
from msdk.runs.writer import one_writer, written_by
from msdk.samplers.base import Sampler
from msdk.sampling import draw, settings_of
from msdk.sampling.drawing import refuse_not_finite
from msdk.sampling.pictures import to_pixels
from msdk.sampling.settings import Settings

Progress = Callable[[str, int, int], None]
"""Told (what is done, images done, images in all)."""

REQUEST = "request"
"""File of what is half done: which request it answers."""


@as_annotated
def evaluate(
    run_dir: str | Path,
    *,
    metrics: Sequence[Metric | str] | None = None,
    extractor: Extractor | str | None = None,
    images: int | None = None,
    repeats: int | None = None,
    checkpoint: int | None = None,
    weights: str | None = None,
    sampler: Sampler | str | None = None,
    steps: int | None = None,
    guidance: float | None = None,
    seed: int | None = None,
    samples: str | Path | None = None,
    reference: str | Path | None = None,
    split: str | None = None,
    recipe: Recipe | None = None,
    name: str | None = None,
    device: str | None = None,
    force: bool = False,
    progress: Progress | None = None,
) -> Scores:
    """Judges the images of a run, as its recipe's `[evaluation]` says where nothing else is said.

    Images are drawn, looked at and forgotten. What a killed process has looked at is kept in
    `evaluations/NAME.partial`, and the same call goes on. The processes of torchrun share the work, and find the same
    numbers. Scores that are there with the same stamp are given back as they are.

    Args:
        run_dir: The run folder.
        metrics: What is measured: metrics, or their names.
        extractor: What makes features, or its name.
        images: Generated images of a range of seeds.
        repeats: Ranges of seeds.
        checkpoint: Its iteration; the newest one when not given.
        weights: "ema" or "raw".
        sampler: How images are drawn: a sampler, or the name of one.
        steps: Intervals of its time grid.
        guidance: Weight of classifier-free guidance.
        seed: The first seed.
        samples: Images that were drawn elsewhere: a zip or a folder, in the place of the run's.
        reference: Real images: a zip or a folder, in the place of the recipe's.
        split: Which of the real images, see `msdk.recipe.Evaluation`.
        recipe: The run's, sampled in another way; read from the folder when not given.
        name: Of the file of scores; by the checkpoint when not given.
        device: Where; each process has a GPU of its own where that is `cuda`.
        force: Whether scores of that name are made anew.
        progress: Told (what is done, images done, images in all) of this process.

    Raises:
        RunError: No such run or checkpoint, other scores of that name, or another process makes them now.
        DataError: Images cannot be read, or are none.
        PartError: Too few images for a metric, images that an extractor cannot look at, weights that are not there,
            features that are not finite.
        UnknownNameError: There is no metric, extractor or sampler of that name.
    """
    asked = Asked(
        metrics=metrics,
        extractor=extractor,
        images=images,
        repeats=repeats,
        checkpoint=checkpoint,
        weights=weights,
        sampler=sampler,
        steps=steps,
        guidance=guidance,
        seed=seed,
        samples=samples,
        reference=reference,
        split=split,
    )
    return evaluate_asked(Path(run_dir), asked, recipe, name=name, device=device, force=force, progress=progress)


def evaluate_asked(
    run: Path,
    asked: Asked,
    recipe: Recipe | None = None,
    *,
    name: str | None = None,
    device: str | None = None,
    force: bool = False,
    progress: Progress | None = None,
) -> Scores:
    """`evaluate`, of what is asked."""
    with together(this_rank()) as group:
        task = group.agreed(lambda: task_of(run, asked, recipe))
        return evaluate_here(task, group, name=name, device=device, force=force, progress=progress)


def judging(recipe: Recipe, device: str | None = None) -> Callable[[Path, int, Group], object] | None:
    """What training calls every `training.evaluate_every` steps; None where it is not to.

    What would be wrong then is told now: weights that are not there, too few images.

    Raises:
        MsdkError: As `evaluate` does, of what can be known before.
    """
    if recipe.evaluation is None:
        return None
    task = task_of(Path(), recipe=recipe, begins=True)
    for extractor in task.extractors.values():
        ready(extractor, task.reference, "cpu")
    references = len(rows_of(task.reference.open(), task.reference, task.options.split))
    for metric in task.metrics:
        metric.check(task.options.images, references)

    def judge(run: Path, iteration: int, group: Group) -> Scores:
        return evaluate_here(group.agreed(lambda: task_of(run, Asked(checkpoint=iteration))), group, device=device)

    return judge if recipe.training.evaluate_every else None


# --- doing it ---------------------------------------------------------------------------------------------------------


def evaluate_here(
    task: Task,
    group: Group,
    *,
    name: str | None = None,
    device: str | None = None,
    force: bool = False,
    progress: Progress | None = None,
) -> Scores:
    """`evaluate`, for the processes of a group."""
    begun, told = time.perf_counter(), progress or (lambda what, done, total: None)
    place = group.rank.device(pick_device(device))
    opened = group.agreed(lambda: {key: ready(each, task.reference, place) for key, each in task.extractors.items()})
    real = group.agreed(task.reference.open)
    stamp = group.agreed(
        lambda: stamp_of(real, task.reference, task.options.split, rows_of(real, task.reference, task.options.split))
    )
    files = group.agreed(lambda: _looked_into(task.files))
    images = images_stamp(task, files)

    def judge() -> None:
        for metric in task.metrics:
            metric.check(task.options.images, stamp.images)

    group.agreed(judge)
    asked = request(task, opened, images, stamp)
    folder = task.run / FOLDER
    name = _name(folder, name, task, asked) if name is None else _checked(name)
    file, partial = folder / f"{name}.json", folder / f"{name}.partial"
    if file.is_file() and not force:
        there = group.agreed(lambda: read_scores(file))
        if there.request == asked:
            if group.rank.first and partial.exists() and not written_by(file):
                remove_whole(partial)  # of a process that was killed when the scores were there
            return there
        raise RunError(f"{file} has scores of another protocol: replace them with --force, or choose another --name")
    with contextlib.ExitStack() as held:
        if group.rank.first:
            folder.mkdir(exist_ok=True)
        group.agreed(lambda: held.enter_context(one_writer(file)) if group.rank.first else None)
        group.agreed(lambda: _begin(partial, asked) if group.rank.first else None)
        references = {
            key: looked_at_all(
                real,
                rows_of(real, task.reference, task.options.split),
                stamp,
                task.extractors[key],
                each,
                place_of(key_of(real, task.reference, task.options.split, task.extractors[key], each)),
                group,
                lambda done, total: told("looking at real images", done, total),
                partial / f"real-{key}",
            )
            for key, each in opened.items()
        }
        denoiser = None
        if any(metric.reads == "denoiser" for metric in task.metrics) or (files is None and opened):
            denoiser = group.agreed(lambda: _loaded(task, place))
        parts = pieces(task.count)
        if opened:
            pixels = _drawn(task, denoiser, group) if files is None else _read(files)
            what = "drawing and looking" if files is None else "looking at images"
            extract(partial, "generated", parts, pixels, opened, group, lambda done, total: told(what, done, total))
        scored = group.agreed(
            lambda: scored_by(task, partial, parts, references, denoiser, opened, stamp) if group.rank.first else ()
        )
        if group.rank.first:
            cost = cost_of(task, time.perf_counter() - begun)
            notes = tuple(notes_of(task, images, stamp))
            found = Scores(
                name=name,
                scores=scored,
                images=images,
                reference=stamp,
                versions=versions(opened),
                processes=group.rank.count,
                cost=cost,
                request=asked,
                notes=notes,
            )
            write_json(file, found.as_json())
            remove_whole(partial)
            note_costs(task.run)
        group.wait()
        return read_scores(file)


def _loaded(task: Task, device: str) -> Denoiser:
    if task.load is not None:
        return task.load(device)
    weights = task.options.weights
    return load_run(task.run, weights=weights, device=device, checkpoint=task.checkpoint)


def _settings(task: Task) -> Settings:
    first = task.options.seed
    return settings_of(task.recipe, seeds=range(first, first + task.count))


def _drawn(task: Task, denoiser: Denoiser | None, group: Group) -> Callable[[range], Tensor]:
    """Draws pieces of images, by their seeds."""
    if denoiser is None:  # our own slip
        raise ValueError("images are drawn from a denoiser")
    settings: Settings | None = None

    def pixels(part: range) -> Tensor:
        nonlocal settings
        settings = settings or fitting(denoiser, _settings(task), group.rank.count)  # where a piece is missing at all
        own = attrs.evolve(settings, seeds=range(settings.seeds[part.start], settings.seeds[part.stop - 1] + 1))
        found: list[Tensor] = []
        for seeds, images in draw(denoiser, own):
            refuse_not_finite(denoiser, settings, seeds, images)
            found.append(to_pixels(images))
        return torch.cat(found)

    return pixels


def _looked_into(data: Dataset | None) -> Source | None:
    """Opened; images of another size are told before a folder is made."""
    source = None if data is None else data.open()
    if source is not None:
        source.batch([0])
    return source


def _read(source: Source) -> Callable[[range], Tensor]:
    return lambda part: source.batch(part).images


def _begin(partial: Path, asked: str) -> None:
    """Makes the folder of what is half done; what was begun by another protocol goes."""
    if partial.exists() and _begun(partial) != asked:
        remove_whole(partial)
    partial.mkdir(parents=True, exist_ok=True)
    for left in partial.glob(".*.tmp"):  # of a process that was killed while it wrote one
        left.unlink(missing_ok=True)
    sweep(partial / REQUEST)
    write_text(partial / REQUEST, asked)


def _begun(partial: Path) -> str | None:
    """The request that is half done; None where none is."""
    try:
        return (partial / REQUEST).read_text(encoding="utf-8")
    except (OSError, ValueError):
        return None


def _name(folder: Path, name: str | None, task: Task, asked: str) -> str:
    """By the checkpoint, with the first number that is new, or has just these scores, done or half done."""
    own = f"{task.checkpoint:08d}" if task.files is None else "samples"
    number = 1
    while True:
        found = own if number == 1 else f"{own}-{number}"
        done = folder / f"{found}.json"
        if done.is_file():
            with contextlib.suppress(MsdkError):
                if read_scores(done).request == asked:
                    return found
        elif _begun(folder / f"{found}.partial") in (None, asked):
            return found
        number += 1


def _checked(name: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9][\w.-]{0,99}", name):
        raise RunError(f"'{name}' is no name of a file of scores: use letters, digits, dots, - and _")
    return name
