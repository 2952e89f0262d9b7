"""The run folder: recipe, lock, ledger and checkpoints, each written whole or not at all.

Every file and folder is made under a temporary name, synced to disk and renamed, so that a process killed at any
moment, or a full disk, leaves the last good checkpoint as it was. Weights are safetensors; nothing is unpickled.
"""

import importlib.metadata
import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs

from msdk.denoiser.building import AUTOENCODER, weights_file
from msdk.errors import RecipeError, RunError
from msdk.recipe import Recipe, load_recipe, to_toml
from msdk.recipe.structuring import to_data
from msdk.runs.files import not_written, write_bytes, write_json, write_text, written_whole
from msdk.runs.lock import lock

CODE = "code"
"""Folder of a run with the Python files that its recipe uses."""


def start_run(
    path: Path,
    recipe: Recipe,
    *,
    force: bool = False,
    data_digest: str = "",
    forked_from: Sequence[Mapping[str, str]] = (),
) -> None:
    """Makes a new run folder with the resolved recipe, the lock, and the weights of the autoencoder if there is one.

    Args:
        path: The run folder.
        recipe: Its stage edges are known.
        force: Whether to replace a run folder that exists.
        data_digest: Of the data, for the lock.
        forked_from: For the lock: what the run was made from, its parent first, see `fork`.

    Raises:
        RunError: The folder exists, and `force` is false or it is no run folder; or the weights cannot be read.
    """
    refuse_existing(path, force=force)
    # Read before an old folder goes, which may be the one that holds them.
    frozen = None if recipe.autoencoder is None else _bytes(weights_file(recipe.autoencoder))
    try:
        if path.exists():
            shutil.rmtree(path)
        path.mkdir(parents=True)
    except OSError as error:
        raise not_written(path, error) from error
    if frozen is not None:
        with written_whole(path / AUTOENCODER) as temporary:
            temporary.write_bytes(frozen)
    write_recipe(path, recipe)
    write_json(path / "lock.json", lock(recipe, data_digest, frozen, forked_from))


def write_recipe(path: Path, recipe: Recipe) -> None:
    """Writes the resolved recipe of a run folder; autoencoder and code are the folder's own, so it can be moved."""
    if recipe.use:
        (path / CODE).mkdir(exist_ok=True)
    for file in recipe.use:
        write_bytes(path / CODE / file.name, file.content)  # what ran, whatever the file holds by now
    own = attrs.evolve(recipe, use=tuple(attrs.evolve(file, path=Path(CODE) / file.name) for file in recipe.use))
    write_text(path / "recipe.toml", to_toml(with_autoencoder_of(own, Path())))


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


def refuse_existing(path: Path, *, force: bool) -> None:
    """Raises `RunError` where a new run would overwrite something that it may not."""
    if not path.exists() or (path.is_dir() and not any(path.iterdir())):
        return
    if not force:
        raise RunError(f"{path} exists: continue it with --resume, replace it with --force, or choose another --out")
    if not (path / "lock.json").is_file():
        raise RunError(f"{path} is not a run folder (it has no lock.json), so --force does not replace it")


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
        missing = _missing_plugins(path)
        if missing:
            raise RunError(f"{path} was made with {missing}") from error
        raise


def _missing_plugins(path: Path) -> str:
    """The plugins that the lock of a run names and that are not installed, or in another version, and what to do."""
    try:
        plugins: dict[str, str] = json.loads((path / "lock.json").read_text(encoding="utf-8")).get("plugins", {})
    except (OSError, ValueError):
        return ""
    wrong: list[str] = []
    for owner, version in plugins.items():
        try:
            here = importlib.metadata.version(owner)
        except importlib.metadata.PackageNotFoundError:
            wrong.append(f"{owner} {version}, which is not installed: pip install {owner}=={version}")
            continue
        if here != version:
            wrong.append(f"{owner} {version}, but {here} is installed: pip install {owner}=={version}")
    return "; and with ".join(wrong)


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
