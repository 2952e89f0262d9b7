"""What made a run: versions, distributions of its parts, data, code and command."""

import hashlib
import importlib.metadata
import platform
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import attrs
import torch
from packaging.utils import InvalidName, canonicalize_name
from packaging.version import InvalidVersion, Version

from msdk import __version__
from msdk.errors import RunError
from msdk.recipe import Recipe
from msdk.recipe.results import parsed
from msdk.recipe.structuring import parts_of, to_data
from msdk.registry.discovery import DISTRIBUTION, FORMER

FILE = "lock.json"


@attrs.frozen(kw_only=True)
class Resumed:
    """Where a run went on with something else than before.

    Attributes:
        iteration: Steps done then.
        recipe: Key of the recipe -> what it was and what it is from there on.
        versions: Of msdk, python, torch and plugins, likewise.
        data: SHA-256 of the data, before and from there on; empty where they are the same.
    """

    iteration: int
    recipe: Mapping[str, tuple[Any, Any]] = attrs.field(factory=dict[str, tuple[Any, Any]])
    versions: Mapping[str, tuple[str, str]] = attrs.field(factory=dict[str, tuple[str, str]])
    data: tuple[str, ...] = ()

    @property
    def differs(self) -> bool:
        """Whether anything is another."""
        return bool(self.recipe or self.versions or self.data)


@attrs.frozen(kw_only=True)
class Lock:
    """The content of lock.json (docs/contracts.md). A folder of an autoencoder alone has the first and its name."""

    msdk: str = ""
    python: str = ""
    torch: str = ""
    plugins: Mapping[str, str] = attrs.field(factory=dict[str, str])
    use: Mapping[str, str] = attrs.field(factory=dict[str, str])
    stages_from: Any = None
    data: Mapping[str, Any] = attrs.field(factory=dict[str, Any])
    autoencoder: Any = None
    forked_from: tuple[Mapping[str, str], ...] = ()
    started_from: Any = None
    git_commit: Any = None
    command: tuple[str, ...] = ()
    resumed: tuple[Resumed, ...] = ()

    @classmethod
    def _heard(cls, found: Mapping[str, Any]) -> Mapping[str, Any]:
        """What a later msdk says besides is left out."""
        return {key: value for key, value in found.items() if key in attrs.fields_dict(cls)}


def read_lock(run: Path) -> Lock:
    """What lock.json of a folder says; nothing where there is none.

    Raises:
        RunError: It is damaged.
    """
    path = run / FILE
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return Lock()
    except OSError as error:
        raise RunError(f"{path} cannot be read: {error.strerror}") from error
    return parsed(content, path, Lock, "the lock of a run, as `msdk train` writes it")


def class_names(run: Path) -> tuple[str, ...]:
    """The names of class 0, of class 1, ... of the data that a run was trained on; none where it knows none."""
    try:
        found = read_lock(run).data.get("classes")
    except RunError:  # told by whoever needs more of it
        return ()
    names = cast("list[object]", found) if isinstance(found, list) else []
    return tuple(cast("list[str]", names)) if all(isinstance(name, str) for name in names) else ()


def missing_plugins(run: Path) -> str:
    """The plugins that the lock of a run names and that are not installed, or in another version, and what to do.

    The lock may be a stranger's, so only what is a name and a version is put into a command to install it.
    """
    wrong: list[str] = []
    for owner, version in read_lock(run).plugins.items():
        try:
            canonicalize_name(owner, validate=True)
            Version(version)
        except (InvalidName, InvalidVersion):
            wrong.append(f"{owner[:60]!r} in version {version[:60]!r}, which its lock.json names and no package can be")
            continue
        if canonicalize_name(owner) == FORMER:
            owner = DISTRIBUTION  # of no run of ours, and on the index somebody else's
        try:
            here = importlib.metadata.version(owner)
        except importlib.metadata.PackageNotFoundError:
            wrong.append(f"{owner} {version}, which is not installed: pip install {owner}=={version}")
            continue
        if here != version:
            wrong.append(f"{owner} {version}, but {here} is installed: pip install {owner}=={version}")
    return "; and with ".join(wrong)


def lock(
    recipe: Recipe,
    data_digest: str,
    autoencoder: bytes | None = None,
    forked_from: Sequence[Mapping[str, str]] = (),
    classes: Sequence[str] | None = None,
    protocol: str = "",
    started_from: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """What made a run: versions, distributions of the parts it uses, data, code, command, and runs before it."""
    edges = recipe.stages.from_
    data: dict[str, Any] = {"name": to_data(recipe.data)["name"], "sha256": data_digest}
    data |= ({"protocol": protocol} if protocol else {}) | ({"classes": list(classes)} if classes else {})
    data |= {"held_out": recipe.data.held_out} if recipe.data.held_out else {}
    return {
        "msdk": __version__,
        "python": platform.python_version(),
        "torch": str(torch.__version__),
        "plugins": plugins_of(recipe),
        "use": {file.name: file.sha256 for file in recipe.use},
        "stages_from": None if edges is None else {"file": str(edges.path), "sha256": edges.sha256},
        "data": data,
        "autoencoder": None if autoencoder is None else _origin_of(recipe, autoencoder),
        "forked_from": list(forked_from),
        **({} if started_from is None else {"started_from": dict(started_from)}),
        "git_commit": _git_commit(),
        "command": sys.argv,
    }


def plugins_of(recipe: Recipe) -> dict[str, str]:
    """The distributions of a recipe's parts, beside msdk itself -> their versions."""
    origins = [registry.origin(registry.name_of(type(part))) for part, registry in parts_of(recipe)]
    return {origin.owner: origin.version for origin in origins if origin.version and origin.owner != "msdk"}


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
