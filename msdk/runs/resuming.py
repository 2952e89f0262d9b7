"""What may be different when a run goes on, and how its folder tells of it."""

import json
import math
import platform
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import attrs
import torch

from msdk import __version__
from msdk.errors import RunError, quoted
from msdk.recipe import Recipe
from msdk.recipe.differences import compare
from msdk.recipe.structuring import to_data
from msdk.runs.checkpoint import Checkpoint
from msdk.runs.files import write_json
from msdk.runs.folder import run_recipe
from msdk.runs.lock import FILE, Resumed, lock, plugins_of, read_lock

FREE = (
    "title",
    "sampler",
    "samplers",
    "sampling",
    "evaluation",
    "budget",
    "trackers",
    "data.path",
    "autoencoder.weights",
)
"""Keys of a recipe that say nothing of what is trained: what the data are, their digest says."""

FREE_IN_TRAINING = tuple(
    f"training.{key}"
    for key in (
        *("iterations", "lr", "warmup", "lr_schedule", "clip_norm", "sanitize"),
        *("accumulation", "parallel", "recompute", "log_every", "checkpoint_every", "keep", "evaluate_every"),
        *("compile", "workers", "cache_images", "latents", "snapshot_every", "sample_every", "sample_images"),
        *("batch_size", "stage_groups", "gradient_cosine"),
    )
)
"""Keys of training that may change on the way."""

FREE_IN_STAGES = ("stages.edges_ratio",)
"""Likewise of the stages, whose number stays."""

DRAWN = ("training.batch_size", "stages.edges_ratio")
"""Those by which other images, or images of other stages, are drawn from there on."""

WATCHING = tuple(f"training.{key}" for key in ("validate_every", "validate_images", "validate_weights"))
"""Those that may, as edges may, where training does not stop by what is seen."""

Changed = Mapping[str, tuple[Any, Any]]
"""Key -> what it was and what it is; None where there is no such key."""


def refuse_other_recipe(run: Path, recipe: Recipe) -> Changed:
    """What a recipe changes of the training of a run, which it may.

    Raises:
        RunError: The run was made by a recipe that trains something else; the message has each key.
    """
    ours, theirs = run_recipe(run), recipe
    changed = {one.path: (one.a, one.b) for one in compare(_essence(ours), _essence(theirs))}
    codes = [{file.name: file.sha256 for file in each.use} for each in (ours, theirs)]
    changed |= {f"use ({name})": ("", "edited") for name in sorted({*codes[0], *codes[1]}) if _differ(name, *codes)}
    watching = WATCHING + FREE_IN_STAGES if recipe.training.stop is None else ()
    free = FREE + FREE_IN_TRAINING + watching
    wrong = {key: values for key, values in changed.items() if not _is_free(key, free)}
    if wrong:
        told = [f"{key} ({_value(was)} there, {_value(now)} here)" for key, (was, now) in wrong.items()]
        if any(key.startswith("decoders.") for key in wrong) and len(ours.decoders) != len(theirs.decoders):
            stages = f"{len(ours.decoders)} stages there, {len(theirs.decoders)} here"
            raise RunError(
                f"{run} cannot go on with another number of stages ({stages}): a new run can start from it, "
                f'init = {{ run = "{run}" }}'
            )
        more = f" and {len(told) - 6} more" if len(told) > 6 else ""
        raise RunError(
            f"{run} was trained by another recipe, with other {', '.join(told[:6])}{more}. Resume it with its "
            f"own recipe, `msdk train {run} --resume`, or choose another --out"
        )
    return {key: values for key, values in changed.items() if not _is_free(key, FREE)}


def expected_images(recipe: Recipe, before: tuple[int, tuple[float, ...]], iteration: int) -> list[float]:
    """The images of each stage that a run is expected to have read after so many steps.

    Args:
        recipe: Of the run, as it is since `before`.
        before: As in checkpoints.
        iteration: Steps done.
    """
    changed_at, until_then = before
    found = recipe.training_images(iteration)
    if not changed_at:
        return found
    of_then = recipe.training_images(changed_at)
    return [then + now - past for then, now, past in zip(until_then, found, of_then, strict=True)]


def images_read(recipe: Recipe, before: tuple[int, tuple[float, ...]], iteration: int) -> int:
    """The images that a run has read after so many steps; its place in the endless order of the data."""
    changed_at, until_then = before
    return round(math.fsum(until_then)) + (iteration - changed_at) * recipe.training.batch_size


def changing(run: Path, checkpoint: Checkpoint, changed: Changed) -> Checkpoint:
    """A checkpoint that remembers what was read until a change, where one makes other draws from there on."""
    if not checkpoint.iteration or not any(_is_free(key, DRAWN) for key in changed):
        return checkpoint
    until_then = expected_images(run_recipe(run), checkpoint.before, checkpoint.iteration)
    return attrs.evolve(checkpoint, before=(checkpoint.iteration, tuple(until_then)))


def _essence(recipe: Recipe) -> Recipe:
    """Equal for recipes that train the same; code is compared by its content."""
    # Defaults, named or not: a curriculum's turns may be left to the iterations, which may change where they are not.
    training = attrs.evolve(recipe.training, objective=recipe.training.loss, stage_draw=recipe.stage_draw)
    return attrs.evolve(recipe.with_partition(recipe.partition()), use=(), training=training)


def _differ(name: str, one: Mapping[str, str], other: Mapping[str, str]) -> bool:
    return one.get(name) != other.get(name)


def _is_free(key: str, free: tuple[str, ...]) -> bool:
    return any(key == each or key.startswith(f"{each}.") for each in free)


def _value(value: object) -> str:
    return "none" if value is None else quoted(value)


def refuse_other_data(run: Path, recipe: Recipe, digest: str, *, force: bool) -> None:
    """Raises `RunError` where the data are not those that a run was trained on, unless that is wanted."""
    known = read_lock(run).data.get("sha256", "")
    if known and known != digest and not force:
        where = getattr(recipe.data, "path", None)
        raise RunError(
            f"the data{'' if where is None else f' in {where}'} are not those that {run} was trained on: their SHA-256 "
            f"is {digest[:16]}..., and {FILE} has {known[:16]}.... Bring them back, or go on with these by --force-data"
        )


def resumed(run: Path, recipe: Recipe, digest: str, iteration: int, changed: Changed) -> Resumed:
    """What is different where a run goes on: in its recipe, in the versions that run it, and in its data."""
    before = read_lock(run)
    now = _versions(recipe)
    known = {"msdk": before.msdk, "python": before.python, "torch": before.torch, **before.plugins}
    versions = {key: (known[key], now[key]) for key in now if known.get(key) and known[key] != now[key]}
    was = before.data.get("sha256", "")
    return Resumed(
        iteration=iteration,
        recipe={key: (was, now) for key, (was, now) in changed.items()},
        versions=versions,
        data=(was, digest) if was and was != digest else (),
    )


def _versions(recipe: Recipe) -> dict[str, str]:
    own = {"msdk": __version__, "python": platform.python_version(), "torch": str(torch.__version__)}
    return {**own, **plugins_of(recipe)}


def write_resumed(run: Path, recipe: Recipe, digest: str, what: Resumed) -> None:
    """Writes the lock of a run that goes on: what it is now, and what it was before in `resumed`."""
    before = read_lock(run)
    if (run / FILE).is_file():
        content: dict[str, Any] = json.loads((run / FILE).read_bytes())
    else:  # a run of before there were locks
        content = lock(recipe, digest)
    resumed = list(before.resumed)
    if what.differs and (not resumed or resumed[-1] != what):
        resumed.append(what)
    # What did not differ is left out, so that going on once more writes the same again.
    history = [
        {key: value for key, value in attrs.asdict(each).items() if value or key == "iteration"} for each in resumed
    ]
    now = _versions(recipe)
    content |= {key: now.pop(key) for key in ("msdk", "python", "torch")}
    data = {**before.data, "name": to_data(recipe.data)["name"], "sha256": digest}  # with the names of classes
    content |= {"plugins": now, "data": data}
    if history:
        content["resumed"] = history
    write_json(run / FILE, content)


def told(what: Resumed, run: Path) -> Iterator[str]:
    """Sentences on what is different where a run goes on, apart from its recipe."""
    for name, (was, now) in what.versions.items():
        yield f"{run} was trained with {name} {was}, and goes on with {now}: its last bits may not be what they were"
    if what.data:
        yield f"{run} goes on with other data; {FILE} says from which iteration"


def jumps(was: float, now: float, iteration: int, changed: Changed, *, scheduled: bool) -> Iterator[str]:
    """A sentence where what changed makes the learning rate jump.

    Args:
        was: The learning rate of the last step.
        now: What it would have been.
        iteration: Steps done.
        changed: Keys of the recipe.
        scheduled: Whether a schedule makes the rate depend on the number of steps in all.
    """
    if iteration and not math.isclose(was, now, rel_tol=1e-9):
        of_rate = ("training.lr", "training.warmup", *(("training.iterations",) if scheduled else ()))
        keys = " and ".join(key for key in changed if key.startswith(of_rate))
        yield (
            f"the learning rate jumps at iteration {iteration}: {keys or 'msdk'} changed, so the step before, with "
            f"{was:.4g}, would have had {now:.4g}"
        )
