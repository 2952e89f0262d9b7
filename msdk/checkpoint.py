"""The run folder: recipe, lock, ledger and checkpoints, each written whole or not at all.

Every file and folder is made under a temporary name, synced to disk and renamed, so that a process killed at any
moment, or a full disk, leaves the last good checkpoint as it was. Weights are safetensors; nothing is unpickled.
"""

import hashlib
import importlib.metadata
import json
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import attrs
import torch
from safetensors.torch import save_file
from torch import Tensor

from msdk import __version__
from msdk.building import AUTOENCODER, build, weights_file
from msdk.denoiser import Denoiser
from msdk.errors import RecipeError, RunError
from msdk.local_code import digest_of
from msdk.offloading import Shelves
from msdk.recipe import Recipe, load_recipe, to_toml
from msdk.structuring import parts_of, to_data
from msdk.weights import fill, put_weights, read_weights
from msdk.writing import not_written, write_bytes, write_json, write_text, written_whole

Weights = Literal["ema", "raw"]

CODE = "code"
"""Folder of a run with the Python files that its recipe uses."""


@attrs.frozen
class Checkpoint:
    """All that training needs to go on exactly as if it had not stopped.

    Attributes:
        iteration: Optimiser steps done; with the recipe's seed it fixes every random number and the place in the data.
        images_by_stage: Images that each stage has seen, for the ledger.
        model: Weights and buffers of the staged network.
        ema: Averaged weights under the same names.
        optimizer: Tensors that the optimiser keeps, `"<moment>/<weight>"`.
        optimizer_numbers: Its numbers: "state" under the same names, and "groups", one table each.
        seconds: Time spent training.
    """

    iteration: int
    images_by_stage: tuple[int, ...]
    model: Mapping[str, Tensor]
    ema: Mapping[str, Tensor]
    optimizer: Mapping[str, Tensor]
    seconds: float
    optimizer_numbers: Mapping[str, Any] = attrs.field(factory=dict[str, Any])


# --- the folder -------------------------------------------------------------------------------------------------------


def start_run(path: Path, recipe: Recipe, *, force: bool = False, data_digest: str = "") -> None:
    """Makes a new run folder with the resolved recipe, the lock, and the weights of the autoencoder if there is one.

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
    write_json(path / "lock.json", lock(recipe, data_digest, frozen))


def write_recipe(path: Path, recipe: Recipe) -> None:
    """Writes the resolved recipe of a run folder; autoencoder and code are the folder's own, so it can be moved."""
    if recipe.use:
        (path / CODE).mkdir(exist_ok=True)
    for file in recipe.use:
        if file != path / CODE / file.name:
            write_bytes(path / CODE / file.name, _bytes(file))
    own = attrs.evolve(recipe, use=tuple(Path(CODE) / file.name for file in recipe.use))
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


def lock(recipe: Recipe, data_digest: str, autoencoder: bytes | None = None) -> dict[str, Any]:
    """What made a run: versions, distributions of the parts it uses, data, code and command."""
    origins = [registry.origin(registry.name_of(type(part))) for part, registry in parts_of(recipe)]
    return {
        "msdk": __version__,
        "python": sys.version.split()[0],
        "torch": str(torch.__version__),
        "plugins": {origin.owner: origin.version for origin in origins if origin.version and origin.owner != "msdk"},
        "use": {file.name: digest_of(file) for file in recipe.use},
        "data": {"name": to_data(recipe.data)["name"], "sha256": data_digest},
        "autoencoder": None if autoencoder is None else _origin_of(recipe, autoencoder),
        "git_commit": _git_commit(),
        "command": sys.argv,
    }


def _origin_of(recipe: Recipe, autoencoder: bytes) -> dict[str, Any]:
    own = to_data(recipe.autoencoder)
    return {"name": own["name"], "weights": own["weights"], "sha256": hashlib.sha256(autoencoder).hexdigest()}


def _git_commit() -> str | None:
    try:
        # Only a checkout of msdk itself counts, not a repository that happens to hold the virtual environment.
        for command in (["ls-files", "--error-unmatch", __file__], ["rev-parse", "HEAD"]):
            found = subprocess.run(
                ["git", *command], cwd=Path(__file__).parent, capture_output=True, text=True, timeout=5, check=True
            )
    except (OSError, subprocess.SubprocessError):
        return None
    return found.stdout.strip()


def run_recipe(path: Path) -> Recipe:
    """The recipe of a run folder.

    Raises:
        RunError: It is no run folder.
    """
    if not (path / "recipe.toml").is_file():
        raise RunError(f"{path} is not a run folder: it has no recipe.toml. `msdk train` makes one.")
    try:
        return load_recipe(path / "recipe.toml")
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


FREE_TO_CHANGE = ("title", "sampler", "sampling", "budget")
FREE_IN_TRAINING = ("iterations", "log_every", "checkpoint_every", "keep", "accumulation", "recompute")


def refuse_other_recipe(path: Path, recipe: Recipe) -> None:
    """Raises `RunError` where a run folder was made by a recipe that trains something else."""

    def essence(of: Recipe) -> dict[str, Any]:
        of = of.with_partition(of.partition())
        data = {key: value for key, value in to_data(of).items() if key not in FREE_TO_CHANGE}
        data["training"] = {key: value for key, value in data["training"].items() if key not in FREE_IN_TRAINING}
        data["use"] = [digest_of(file) for file in of.use]
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


# --- checkpoints ------------------------------------------------------------------------------------------------------


def save_checkpoint(run: Path, checkpoint: Checkpoint, keep: int) -> Path:
    """Writes `checkpoints/ITERATION`, then removes all but the newest `keep`."""
    folder = run / "checkpoints"
    folder.mkdir(exist_ok=True)
    path = folder / f"{checkpoint.iteration:08d}"
    with written_whole(path) as temporary:
        temporary.mkdir()
        for name in ("model", "ema", "optimizer"):
            tensors: Mapping[str, Tensor] = getattr(checkpoint, name)
            save_file(
                {key: value.detach().cpu().contiguous() for key, value in tensors.items()},
                temporary / f"{name}.safetensors",
            )
        state = {
            "iteration": checkpoint.iteration,
            "images_by_stage": list(checkpoint.images_by_stage),
            "seconds": checkpoint.seconds,
            "optimizer": dict(checkpoint.optimizer_numbers),
        }
        (temporary / "state.json").write_text(json.dumps(state), encoding="utf-8")
    for old in checkpoints(run)[:-keep]:
        shutil.rmtree(old)
    return path


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


def load_checkpoint(path: Path) -> Checkpoint:
    """Reads a checkpoint onto the CPU.

    Raises:
        RunError: A file is missing or damaged.
    """
    try:
        state = json.loads((path / "state.json").read_text(encoding="utf-8"))
        return Checkpoint(
            iteration=state["iteration"],
            images_by_stage=tuple(state["images_by_stage"]),
            seconds=state["seconds"],
            optimizer_numbers=state.get("optimizer", {}),
            **{name: read_weights(path / f"{name}.safetensors") for name in ("model", "ema", "optimizer")},
        )
    except (OSError, ValueError, KeyError) as error:
        raise RunError(f"the checkpoint {path} is damaged: {error}") from error


def load_weights(denoiser: Denoiser, weights: Mapping[str, Tensor], source: Path) -> None:
    """Copies weights into a denoiser's network.

    Raises:
        RunError: They belong to another network; the message lists the first keys that do not fit.
    """
    put_weights(denoiser.network, weights, source, "recipe")


def load_run(
    run_dir: str | Path, *, weights: Weights = "ema", device: str | torch.device = "cpu", offload: bool = False
) -> Denoiser:
    """The trained denoiser of a run folder, in eval mode, from its newest checkpoint.

    Args:
        run_dir: A folder that `msdk train` or `msdk run` made.
        weights: "ema" for the averaged weights, "raw" for the last ones.
        device: Where to put it.
        offload: Whether what one stage alone uses is loaded when that stage runs, in the place of the last one: less
            memory, more time.

    Raises:
        RunError: No run folder, no checkpoint, or one that is damaged or belongs to another recipe.
    """
    run = Path(run_dir)
    recipe = run_recipe(run)
    path = latest(run) / ("ema.safetensors" if weights == "ema" else "model.safetensors")
    if offload:
        denoiser = build(recipe, make=Shelves(path, separate=recipe.sharing == "separate").make)
        for name, part in denoiser.network.named_children():
            for index, kept in part.named_children():
                if any(True for _ in kept.parameters()):
                    fill(kept, path, f"{name}.{index}.")
    else:
        denoiser = build(recipe)
        fill(denoiser.network, path)
    return denoiser.to(device).eval()
