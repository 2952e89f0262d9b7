"""The run folder: recipe, lock, ledger and checkpoints, each written whole or not at all.

Every file and folder is made under a temporary name, synced to disk and renamed, so that a process killed at any
moment, or a full disk, leaves the last good checkpoint as it was. Weights are safetensors; nothing is unpickled.
"""

import fnmatch
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs

from msdk.denoiser.building import AUTOENCODER, weights_file
from msdk.errors import MsdkError, RecipeError, RunError
from msdk.recipe import Recipe, load_recipe, to_toml
from msdk.recipe.structuring import to_data
from msdk.runs.files import not_written, sweep, write_bytes, write_json, write_text, written_whole
from msdk.runs.lock import FILE as LOCK
from msdk.runs.lock import Lock, lock, missing_plugins, read_lock

CODE = "code"
"""Folder of a run with the Python files that its recipe uses."""


def start_run(
    path: Path,
    recipe: Recipe,
    *,
    force: bool = False,
    data_digest: str = "",
    forked_from: Sequence[Mapping[str, str]] = (),
    class_names: Sequence[str] | None = None,
) -> None:
    """Makes a new run folder with the resolved recipe, the lock, and the weights of the autoencoder if there is one.

    Args:
        path: The run folder.
        recipe: Its stage edges are known.
        force: Whether to replace a run folder that exists.
        data_digest: Of the data, for the lock.
        forked_from: For the lock: what the run was made from, its parent first, see `fork`.
        class_names: Of the data, for the lock, so that sampling can take a class by its name.

    Raises:
        RunError: The folder exists, and `force` is false or it is no run folder; or the weights cannot be read.
    """
    refuse_existing(path, force=force)
    # Read before an old folder goes, which may be the one that holds them.
    frozen = None if recipe.autoencoder is None else _bytes(weights_file(recipe.autoencoder))
    path = path.resolve()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise not_written(path, error) from error
    with written_whole(path) as temporary:
        temporary.mkdir()
        if frozen is not None:
            (temporary / AUTOENCODER).write_bytes(frozen)
        write_recipe(temporary, recipe)
        write_json(temporary / LOCK, lock(recipe, data_digest, frozen, forked_from, class_names))


def sweep_run(path: Path) -> None:
    """Removes what killed processes left of writing the files and checkpoints of a run. For who alone writes it."""
    for name in FILES:
        if "*" not in name:
            sweep(path / name)
    for left in (path / "checkpoints").glob(".*.tmp"):
        shutil.rmtree(left, ignore_errors=True)


def write_recipe(path: Path, recipe: Recipe) -> None:
    """Writes the resolved recipe of a run folder; autoencoder and code are the folder's own, so it can be moved."""
    if recipe.use:
        (path / CODE).mkdir(exist_ok=True)
    for file in recipe.use:
        write_bytes(path / CODE / file.name, file.content)  # what ran, whatever the file holds by now
    write_text(path / "recipe.toml", _resolved(recipe))


def _resolved(recipe: Recipe) -> str:
    own = attrs.evolve(recipe, use=tuple(attrs.evolve(file, path=Path(CODE) / file.name) for file in recipe.use))
    return to_toml(with_autoencoder_of(own, Path()))


def with_autoencoder_of(recipe: Recipe, path: Path) -> Recipe:
    """The same recipe with the autoencoder's weights from a run folder."""
    if recipe.autoencoder is None:
        return recipe
    return attrs.evolve(recipe, autoencoder=attrs.evolve(recipe.autoencoder, weights=path / AUTOENCODER))


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise RunError(f"{path} cannot be read: {error.strerror}") from error


def refuse_existing(path: Path, *, force: bool, resume: bool = False) -> None:
    """Raises `RunError` where a new run would overwrite something that it may not.

    A folder of ours without a checkpoint, as a killed process leaves it, has nothing to lose and is replaced.

    Args:
        path: The run folder.
        force: Whether to replace a run folder that exists.
        resume: Whether to go on in it if it has a checkpoint, and to begin if it has none.
    """
    if path.resolve() in (Path.cwd(), *Path.cwd().parents) and not (resume and checkpoints(path)):
        raise RunError(f"{path} is the folder that this command was started in, or one above it: choose another --out")
    if not path.exists() or (path.is_dir() and not any(path.iterdir())) or (resume and checkpoints(path)):
        return
    if not force and not resume and not _half_made(path):
        raise RunError(f"{path} exists: continue it with --resume, replace it with --force, or choose another --out")
    if not _is_ours(path):
        raise RunError(
            f"{path} is not a run folder (it has no {LOCK} of msdk), so it is neither continued nor replaced: choose "
            "another --out"
        )


FILES = ("recipe.toml", LOCK, "metrics.jsonl", "ledger.json", "checkpoints", CODE, AUTOENCODER, ".*.tmp", ".*.writer")
"""What is in a run folder before it has a checkpoint, unless its trackers write more."""

RESULTS = ("clustering.*", "samples*", "report.md", "report.html")


def _half_made(path: Path) -> bool:
    """Whether a process that made a run folder was killed before its first checkpoint."""
    return (path / "recipe.toml").is_file() and not checkpoints(path) and _holds(path, FILES) and _is_ours(path)


def _is_ours(path: Path) -> bool:
    """Whether msdk made a folder: by its lock, or by a resolved recipe (or an autoencoder) and nothing of others."""
    if not path.is_dir():
        return False
    try:
        found = read_lock(path)
    except RunError:
        found = Lock()
    if found.msdk:
        return True
    if found.autoencoder and _holds(path, (LOCK, AUTOENCODER)):
        return True
    return _holds(path, (*FILES, *RESULTS)) and _is_resolved(path)


def _holds(path: Path, patterns: Sequence[str]) -> bool:
    return all(any(fnmatch.fnmatchcase(entry.name, each) for each in patterns) for entry in path.iterdir())


def _is_resolved(path: Path) -> bool:
    """Whether recipe.toml is as we write it. One that somebody wrote by hand is theirs."""
    file = path / "recipe.toml"
    try:
        return _resolved(load_recipe(file)) == file.read_text(encoding="utf-8")
    except (MsdkError, OSError):
        return False


def checkpoints(run: Path) -> list[Path]:
    """The checkpoints of a run, oldest first."""
    folder = run / "checkpoints"
    return sorted(path for path in folder.glob("[0-9]*") if (path / "state.json").is_file()) if folder.is_dir() else []


def latest(run: Path) -> Path:
    """The newest checkpoint.

    Raises:
        RunError: There is none.
    """
    found = checkpoints(run)
    if not found:
        raise RunError(f"{run} has no checkpoint yet: train it with `msdk train`")
    return found[-1]


def run_recipe(path: Path, overrides: Sequence[str] = ()) -> Recipe:
    """The recipe of a run folder, perhaps with single keys overridden as `load_recipe` does.

    Raises:
        RunError: It is no run folder.
    """
    if not (path / "recipe.toml").is_file():
        raise RunError(f"{path} is not a run folder: it has no recipe.toml. `msdk train` makes one.")
    try:
        return load_recipe(path / "recipe.toml", overrides)
    except RecipeError as error:
        missing = missing_plugins(path)
        if missing:
            raise RunError(f"{path} was made with {missing}") from error
        raise


FREE_TO_CHANGE = ("title", "sampler", "samplers", "sampling", "budget", "trackers")


FREE_IN_TRAINING = ("iterations", "log_every", "checkpoint_every", "keep", "accumulation", "recompute")


def refuse_other_recipe(path: Path, recipe: Recipe) -> None:
    """Raises `RunError` where a run folder was made by a recipe that trains something else."""

    def essence(of: Recipe) -> dict[str, Any]:
        of = of.with_partition(of.partition())
        data = {key: value for key, value in to_data(of).items() if key not in FREE_TO_CHANGE}
        data["training"] = {key: value for key, value in data["training"].items() if key not in FREE_IN_TRAINING}
        data["training"]["objective"] = to_data(of.training.loss)  # the default, named or not
        data["use"] = [file.sha256 for file in of.use]
        data["data"] = {key: value for key, value in data["data"].items() if key != "path"}
        if "autoencoder" in data:
            data["autoencoder"] = {key: value for key, value in data["autoencoder"].items() if key != "weights"}
        return data

    ours, theirs = essence(recipe), essence(run_recipe(path))
    differing = [key for key in {**ours, **theirs} if ours.get(key) != theirs.get(key)]
    if differing:
        raise RunError(
            f"{path} was trained by another recipe, with other {', '.join(differing)}. Resume it with its own "
            f"{path / 'recipe.toml'}, or choose another --out"
        )
