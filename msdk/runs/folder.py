"""The run folder: recipe, lock, ledger and checkpoints, each written whole or not at all.

Every file and folder is made under a temporary name, synced to disk and renamed, so that a process killed at any
moment, or a full disk, leaves the last good checkpoint as it was. Weights are safetensors; nothing is unpickled.
"""

import fnmatch
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs

from msdk.denoiser.building import AUTOENCODER, weights_file
from msdk.errors import MsdkError, RecipeError, RunError, printable, quoted
from msdk.recipe import Recipe, load_recipe, to_toml
from msdk.runs.files import sweep, write_bytes, write_json, write_text, written_whole
from msdk.runs.lock import FILE as LOCK
from msdk.runs.lock import Lock, lock, missing_plugins, read_lock
from msdk.runs.writer import one_writer, tidy

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
    protocol: str = "",
    started_from: Mapping[str, Any] | None = None,
    furnish: Callable[[Path], object] = lambda folder: None,
) -> None:
    """Makes a new run folder with the resolved recipe, the lock, and the weights of the autoencoder if there is one.

    Args:
        path: The run folder.
        recipe: Its stage edges are known.
        force: Whether to replace a run folder that exists.
        data_digest: Of the data, for the lock.
        forked_from: For the lock: what the run was made from, its parent first, see `fork`.
        class_names: Of the data, for the lock, so that sampling can take a class by its name.
        protocol: What the data were made by, for the lock.
        started_from: For the lock: the run whose weights were the first ones, see `msdk.runs.starting`.
        furnish: Puts more into the folder before it is there: it appears with all of that, or not at all.

    Raises:
        RunError: The folder exists, and `force` is false or it is no run folder; or another process writes there; or
            the weights cannot be read.
    """
    refuse_existing(path, force=force)
    # Read before an old folder goes, which may be the one that holds them.
    frozen = None if recipe.autoencoder is None else _bytes(weights_file(recipe.autoencoder))
    path = path.resolve()
    made = lock(recipe, data_digest, frozen, forked_from, class_names, protocol, started_from)
    with one_writer(path), written_whole(path) as temporary:
        temporary.mkdir()
        if frozen is not None:
            (temporary / AUTOENCODER).write_bytes(frozen)
        write_recipe(temporary, recipe)
        write_json(temporary / LOCK, made)
        furnish(temporary)


def sweep_run(path: Path) -> None:
    """Removes what killed processes left of writing the files and checkpoints of a run. For who alone writes it."""
    for name in FILES:
        if "*" not in name:
            sweep(path / name)
    for left in (path / "checkpoints").glob(".*.tmp"):
        shutil.rmtree(left, ignore_errors=True)
    for left in (*(path / "snapshots").glob(".*.tmp"), *(path / "sheets").glob(".*.tmp")):
        left.unlink(missing_ok=True)


def write_recipe(path: Path, recipe: Recipe) -> None:
    """Writes the resolved recipe of a run folder; autoencoder and code are the folder's own, so it can be moved."""
    if recipe.use:
        (path / CODE).mkdir(exist_ok=True)
    for file in recipe.use:
        write_bytes(path / CODE / file.name, file.content)  # what ran, whatever the file holds by now
    write_text(path / "recipe.toml", _history(path) + _resolved(recipe))


CHANGED = "# Changed at iteration "
"""Begins the lines of a run's recipe.toml that tell what it was before."""


def _history(path: Path) -> str:
    lines = [
        f"{CHANGED}{each.iteration}: {printable(key)} was {quoted(was)}\n"
        for each in read_lock(path).resumed
        for key, (was, _) in each.recipe.items()
    ]
    return "".join(lines)


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
        tidy(path)
        raise RunError(f"{path} exists: continue it with --resume, replace it with --force, or choose another --out")
    if not _is_ours(path):
        raise RunError(
            f"{path} is not a run folder (it has no {LOCK} of msdk), so it is neither continued nor replaced: choose "
            "another --out"
        )


FILES = (
    *("recipe.toml", LOCK, "metrics.jsonl", "ledger.json", "checkpoints", "snapshots", "sheets", CODE, AUTOENCODER),
    *(".*.tmp", ".*.writer"),
)
"""What is in a run folder before it has a checkpoint, unless its trackers write more."""

RESULTS = ("clustering.*", "samples*", "evaluations", "losses.png", "report.md", "report.html")


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
        lines = file.read_text(encoding="utf-8").splitlines(keepends=True)
        return _resolved(load_recipe(file)) == "".join(line for line in lines if not line.startswith(CHANGED))
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


def checkpoint_at(run: Path, iteration: int) -> Path:
    """The checkpoint of an iteration.

    Raises:
        RunError: It is not kept; the message says which are.
    """
    found = {int(path.name): path for path in checkpoints(run)}
    if iteration not in found:
        latest(run)
        kept = ", ".join(f"{each:,}" for each in found)
        raise RunError(f"{run} keeps no checkpoint of iteration {iteration:,}: it has {kept}. training.keep says so")
    return found[iteration]


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
