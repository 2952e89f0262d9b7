"""What was found before, on disk: keyed by all settings that it depends on, and by all code that could change it.

Counts of budgets and clusterings are kept.
"""

import contextlib
import functools
import hashlib
import importlib.metadata
import json
import os
import secrets
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import cattrs

from msdk.recipe.results import from_json
from msdk.registry.local_code import digest_of

T = TypeVar("T")

PACKAGES = ("torch", "fvcore", "timm")
"""Distributions whose versions a value may depend on."""

THIS_PROCESS = secrets.token_hex(8)
"""Stands for code that only this process knows."""


def folder() -> Path:
    """Where it is: `$MSDK_CACHE`, or the user's cache folder."""
    place = os.environ.get("MSDK_CACHE")
    if place:
        return Path(place)
    import platformdirs

    return platformdirs.user_cache_path("msdk")


def recall(key: Mapping[str, Any], kind: type[T]) -> T | None:
    """What `keep` wrote for an equal key under the same code; None where that is not there, or is none of its kind."""
    path = _path(key)
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    # The key and a digest are kept beside the value, so that a file that was moved or damaged is not believed.
    if (
        not isinstance(found, dict)
        or found.get("key") != _whole(key)
        or found.get("sha256") != _sha256(found.get("value"))
    ):
        return None
    try:
        return from_json(found["value"], kind)
    except (cattrs.BaseValidationError, ValueError, TypeError, KeyError, RecursionError):
        return None


def keep(key: Mapping[str, Any], value: Any) -> None:
    """Keeps a value for a key; a cache that cannot be written is no reason to fail."""
    path = _path(key)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_text(
            json.dumps({"key": _whole(key), "value": value, "sha256": _sha256(value)}), encoding="utf-8"
        )
        temporary.replace(path)


def fingerprint(part: type) -> str:
    """Changes when the code of a part's package does; code that has no file, as in a notebook, differs every time."""
    local = digest_of(part)
    if local is not None:
        return local[:16]
    module = sys.modules[part.__module__]
    top = sys.modules[part.__module__.partition(".")[0]]
    source = getattr(top, "__file__", None) or getattr(module, "__file__", None)
    return THIS_PROCESS if source is None or top.__name__ == "__main__" else _digest_of(Path(source))


def _path(key: Mapping[str, Any]) -> Path:
    return folder() / "counts" / f"{_sha256(_whole(key))[:32]}.json"


def _sha256(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def _whole(key: Mapping[str, Any]) -> Any:
    return json.loads(json.dumps({**key, "code": _code()}))


@functools.cache
def _code() -> dict[str, str]:
    versions = {name: importlib.metadata.version(name) for name in PACKAGES}
    return {**versions, "msdk": _digest_of(Path(__file__).with_name("__init__.py"))}


@functools.cache
def _digest_of(source: Path) -> str:
    """Digest of names, sizes and times of a package's files, or of the one file of a module."""
    files = sorted(source.parent.rglob("*.py")) if source.name == "__init__.py" else [source]
    found = hashlib.sha256()
    for file in files:
        status = file.stat()
        found.update(f"{file} {status.st_size} {status.st_mtime_ns}\n".encode())
    return found.hexdigest()[:16]
