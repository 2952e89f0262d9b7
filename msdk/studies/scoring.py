"""What finished trials are worth beside their curves: scores of images, losses in the stages of one arm, a picture.

Every trial has a file of its own in the study's folder, which says what made its numbers. So several processes share
the work, what was killed is done again, and what is there is not.
"""

import io
import json
import statistics
import time
import typing
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import torch

from msdk.denoiser import Denoiser
from msdk.denoiser.building import pick_device
from msdk.errors import MsdkError, RunError
from msdk.evaluation import evaluate
from msdk.evaluation.held_out import shown_to_denoiser
from msdk.metrics.stage_losses import stage_losses
from msdk.partition import Partition
from msdk.recipe import Recipe
from msdk.recipe.results import to_json
from msdk.recipe.structuring import to_data
from msdk.runs import load_run
from msdk.runs.files import write_bytes, write_json
from msdk.runs.writer import one_writer, written_by
from msdk.sampling import draw, settings_of
from msdk.sampling.drawing import drawable, to_pixels
from msdk.studies.collecting import state_of
from msdk.studies.crossing import Curves, cross
from msdk.studies.planning import Plan, Trial
from msdk.studies.results import Interval, ScoreResult

FOLDER = "scores"
"""Of a study: a file for each trial."""

PICTURE = "samples.png"

BY_STAGE = "denoising-loss"
"""The metric that is looked at here, in stages that all arms share: evaluations have it in each run's own."""

POLL = 1.0
"""Seconds between looks at trials that other processes score."""

Progress = Callable[[Trial, int, int], None]
"""Told (trial, what is done, all of it)."""


def score(
    plan: Plan,
    trials: Sequence[Trial],
    folder: Path,
    *,
    device: str | None = None,
    wait: bool = True,
    progress: Progress | None = None,
    warned: Callable[[str], None] | None = None,
) -> None:
    """Scores each finished trial that nobody has scored, by the metrics `scores` of the study.

    Args:
        plan: The study.
        trials: Of it.
        folder: Of it.
        device: Where.
        wait: Whether to wait for what other processes score.
        progress: Told how far it is.
        warned: Told what cannot be scored, and why.
    """
    left = [each for each in trials if plan.study.study.scores and state_of(folder, each)[0] == "done"]
    edges = shared_edges(plan)
    while left:
        others: list[Trial] = []
        for trial in left:
            asked = _asked(plan, trial, edges)
            file = _file(folder, trial)
            if _read(file, asked) is not None:
                continue
            try:
                with one_writer(file):
                    if _read(file, asked) is None:
                        numbers = _scored(plan, trial, folder, edges, device, progress)
                        write_json(file, {**asked, "scores": numbers})
            except RunError as error:
                if written_by(file):
                    others.append(trial)
                elif warned is not None:
                    warned(f"{trial.name} has no scores: {error}")
            except MsdkError as error:
                if warned is not None:
                    warned(f"{trial.name} has no scores: {error}")
        left = others if wait else []
        if left:
            time.sleep(POLL)


def shared_edges(plan: Plan) -> tuple[float, ...]:
    """Edges of the stages that all arms' losses are told in: of the first arm with the most stages."""
    return max((each.recipe.partition().edges for each in plan.kept), key=len, default=())


def stages_by(plan: Plan) -> str:
    """The arm whose stages these are."""
    return next((each.name for each in plan.kept if each.recipe.partition().edges == shared_edges(plan)), "")


def _file(folder: Path, trial: Trial) -> Path:
    return folder / FOLDER / f"{trial.name}.json"


def _asked(plan: Plan, trial: Trial, edges: Sequence[float]) -> dict[str, Any]:
    """What decides the numbers, beside the trial's own address."""
    recipe = to_data(trial.recipe)
    how = {key: recipe[key] for key in ("evaluation", "sampler", "sampling")}
    asked = {"metrics": plan.study.study.scores, "edges_ratio": edges, **how}
    return typing.cast("dict[str, Any]", json.loads(json.dumps({key: to_json(each) for key, each in asked.items()})))


def _read(file: Path, asked: Mapping[str, Any]) -> dict[str, float] | None:
    """The numbers of a file; None where there are none, or others were asked for."""
    try:
        found: Any = json.loads(file.read_text(encoding="utf-8"))
        same = all(found[key] == value for key, value in asked.items())
        return {str(name): float(value) for name, value in found["scores"].items()} if same else None
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def _scored(
    plan: Plan, trial: Trial, folder: Path, edges: Sequence[float], device: str | None, progress: Progress | None
) -> dict[str, float]:
    run, wanted = trial.run(folder), plan.study.study.scores
    found: dict[str, float] = {}
    if BY_STAGE in wanted:
        denoiser = load_run(run, device=pick_device(device)).eval()
        found |= _by_stage(denoiser, trial.recipe, plan.variants[0].recipe, Partition(tuple(edges)))
    others = [each for each in wanted if each != BY_STAGE]
    if others:

        def told(what: str, done: int, total: int) -> None:
            if progress is not None and total:
                progress(trial, done, total)

        made = evaluate(run, metrics=others, recipe=trial.recipe, device=device, progress=told)
        found |= {each.name: each.value for each in made.scores}
    return found


def _by_stage(denoiser: Denoiser, recipe: Recipe, law: Recipe, partition: Partition) -> dict[str, float]:
    """Losses of held-out images in each stage of a partition, by the law of times and the weighting of one recipe."""
    shown = shown_to_denoiser(denoiser, recipe, recipe.training.validate_images)
    assert shown.real is not None
    same = attrs.evolve(recipe, weighting=law.weighting, training=law.training)
    losses = stage_losses(denoiser, same, shown.real, shown.hashes, recipe.training.batch_size, partition)
    return {f"loss, stage {stage}": loss for stage, loss in losses.items()}


# --- what they say ----------------------------------------------------------------------------------------------------


def compared(plan: Plan, trials: Sequence[Trial], folder: Path, baseline: str) -> tuple[ScoreResult, ...]:
    """The scores of every arm over its seeds, and against the baseline's, seed by seed."""
    options, edges = plan.study.study, shared_edges(plan)
    if not options.scores:
        return ()
    numbers = {trial.number: _read(_file(folder, trial), _asked(plan, trial, edges)) or {} for trial in trials}
    arms = {
        variant.name: {trial.seed: numbers[trial.number] for trial in trials if trial.variant is variant}
        for variant in plan.kept
    }
    names = list(dict.fromkeys(name for found in numbers.values() for name in found))
    theirs = arms.get(baseline, {})
    results: list[ScoreResult] = []
    for name in names:
        for arm, by_seed in arms.items():
            own = {seed: found[name] for seed, found in by_seed.items() if name in found}
            if not own:
                continue
            pairs = [(own[seed], theirs[seed][name]) for seed in own if name in theirs.get(seed, {})]
            versus = arm != baseline and len(pairs) > 1
            results.append(
                ScoreResult(
                    name=name,
                    arm=arm,
                    seeds=tuple(own),
                    mean=statistics.fmean(own.values()),
                    spread=statistics.stdev(own.values()) if len(own) > 1 else None,
                    difference=_difference(pairs, options.confidence) if versus else None,
                )
            )
    return tuple(results)


def _difference(pairs: Sequence[tuple[float, float]], confidence: float) -> Interval:
    """Mean and interval of paired differences: Student's, by the bootstrap of `crossing`."""
    ours, theirs = (np.array(column, dtype=np.float64)[:, None] for column in zip(*pairs, strict=True))
    found = cross(Curves(np.ones(1), ours), Curves(np.ones(1), theirs), confidence=confidence).difference
    return Interval.of(found.value, found.low, found.high)


# --- pictures ---------------------------------------------------------------------------------------------------------

SIDE, ROWS, COLUMNS = 32, 8, 8
"""Pixels that an image is enlarged to at least, and how many there are of each arm."""


def paint(
    plan: Plan, trials: Sequence[Trial], folder: Path, *, device: str | None = None, progress: Progress | None = None
) -> Path | None:
    """`samples.png`: images of the first seed's trials side by side, from the same noise; None where there are none.

    Raises:
        MsdkError: Images cannot be drawn.
    """
    from PIL import Image, PngImagePlugin, UnidentifiedImageError

    first = [each for each in trials if each.seed == plan.study.study.seeds[0]]
    shown = [each for each in first if drawable(each.recipe.data.shape) and state_of(folder, each)[0] == "done"][:4]
    file = folder / PICTURE
    if not plan.study.study.scores or len(shown) < 2:
        return None
    key = " ".join(each.name for each in shown)
    try:
        with Image.open(file) as there:
            if there.info.get("trials") == key:
                return file
    except (OSError, UnidentifiedImageError):
        pass
    panels = [_panel(each, folder, device, progress) for each in shown]
    gap, top = 16, 28
    width = sum(each.width for each in panels) + gap * (len(panels) + 1)
    sheet = Image.new("RGB", (width, max(each.height for each in panels) + top + gap), "white")
    place = gap
    for trial, panel in zip(shown, panels, strict=True):
        sheet.paste(panel, (place, top))
        _caption(sheet, trial.variant.name, place, top)
        place += panel.width + gap
    facts = PngImagePlugin.PngInfo()
    facts.add_text("trials", key)
    content = io.BytesIO()
    sheet.save(content, "PNG", pnginfo=facts)
    write_bytes(file, content.getvalue())
    return file


def _caption(sheet: Any, text: str, left: int, top: int) -> None:
    from PIL import ImageDraw, ImageFont

    ImageDraw.Draw(sheet).text((left, top // 2), text, fill="black", font=ImageFont.load_default(16), anchor="lm")


def _panel(trial: Trial, folder: Path, device: str | None, progress: Progress | None) -> Any:
    from msdk.sampling.drawing import grid

    denoiser = load_run(trial.run(folder), device=pick_device(device))
    settings = settings_of(trial.recipe, seeds=range(ROWS * COLUMNS))
    told = None if progress is None else lambda done, total: progress(trial, done, total)
    images = torch.cat([each for _, each in draw(denoiser, settings, progress=told)])
    panel = grid(to_pixels(images), COLUMNS)
    share = SIDE * COLUMNS / panel.width
    return panel.resize((round(panel.width * share), round(panel.height * share))) if share < 1 else panel
