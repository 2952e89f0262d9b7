"""Where the trials of a study are: run folders with an address in their names, which several studies may share."""

import contextlib
import hashlib
import json
import re
from pathlib import Path
from typing import Any

from msdk import __version__
from msdk.errors import RunError
from msdk.recipe import Recipe
from msdk.recipe.structuring import to_data
from msdk.runs.lock import Lock
from msdk.runs.resuming import FREE

RUNS = "trials"
"""Folder of a study with its run folders, or a link to one that several studies share."""


def run_of(folder: Path, name: str) -> Path:
    """The run folder of a trial: the one of its address, whichever arm of whichever study it was made for.

    Args:
        folder: Of the study.
        name: Of the trial: its arm, its seed, and its address.
    """
    run = folder / RUNS / name
    if not run.is_dir():
        _, _, address = name.rpartition("-")
        run = min((folder / RUNS).glob(f"*-{address}"), default=run)
    return run


def share(folder: Path, runs: Path) -> None:
    """Makes a study keep its runs in a folder that other studies keep theirs in.

    Args:
        folder: Of the study.
        runs: Of all.

    Raises:
        RunError: The study has runs of its own, or the folders cannot be made.
    """
    own = folder / RUNS
    try:
        runs.mkdir(parents=True, exist_ok=True)
        folder.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(FileExistsError):
            own.symlink_to(runs.resolve(), target_is_directory=True)
        if not own.samefile(runs):
            if own.is_symlink():
                raise RunError(f"{own} is a link to {own.resolve()}, not to {runs}: name that one, or another --out")
            raise RunError(f"{own} has the runs of this study, not {runs}: move what is in it there, and remove it")
    except OSError as error:
        raise RunError(f"{own} cannot be a link to {runs}: {error.strerror}") from error


def address(recipe: Recipe, digest: str, version: str = __version__) -> str:
    """What stands for all that a run's training depends on: its recipe, its data, and the version of msdk.

    Where training evaluates on the way, how it draws and judges belongs to that.

    Args:
        recipe: Its stage edges are known.
        digest: Of the data.
        version: Of msdk.
    """
    data = to_data(recipe.with_partition(recipe.partition()))
    judged = ("sampler", "samplers", "sampling", "evaluation") if recipe.training.evaluate_every else ()
    for key in (each for each in FREE if each not in judged):
        table: Any = data
        *above, last = key.split(".")
        for step in above:
            table = table.get(step, {})
        table.pop(last, None)
    whole = {"recipe": data, "use": [file.sha256 for file in recipe.use], "data": digest, "msdk": version}
    return hashlib.sha256(json.dumps(whole, sort_keys=True).encode()).hexdigest()[:12]


def address_by(recipe: Recipe, lock: Lock) -> str:
    """The address of a run that is there: its recipe's, with the data and the version that its lock tells of."""
    return address(recipe, str(lock.data.get("sha256", "")), lock.msdk)


def slug(name: str) -> str:
    """A name as part of a file name."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:48] or "arm"
