"""What was counted before, on disk: keyed by the settings of a part and by all code that could change its count."""

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
from typing import Any

from msdk.registry.local_code import digest_of

PACKAGES = ("torch", "fvcore", "timm")
"""Distributions whose versions a count may depend on."""

THIS_PROCESS = secrets.token_hex(8)
"""Stands for code that only this process knows."""


def folder() -> Path:
    """Where counts are kept: `$MSDK_CACHE`, or the user's cache folder."""
    place = os.environ.get("MSDK_CACHE")
    if place:
        return Path(place)
    import platformdirs

    return platformdirs.user_cache_path("msdk")


def recall(key: Mapping[str, Any]) -> Any:
    """What `keep` wrote for an equal key under the same code; None where there is nothing that can be read."""
    path = _path(key)
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    # The key is kept beside the value, so that a file that was moved or cut short is not believed.
    return found["value"] if isinstance(found, dict) and found.get("key") == _whole(key) and "value" in found else None


def keep(key: Mapping[str, Any], value: Any) -> None:
    """Keeps a value for a key; a cache that cannot be written is no reason to fail."""
    path = _path(key)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_text(json.dumps({"key": _whole(key), "value": value}), encoding="utf-8")
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
    text = json.dumps(_whole(key), sort_keys=True)
    return folder() / "counts" / f"{hashlib.sha256(text.encode()).hexdigest()[:32]}.json"


def _whole(key: Mapping[str, Any]) -> Any:
    return json.loads(json.dumps({**key, "code": _code()}))


@functools.cache
def _code() -> dict[str, str]:
    versions = {name: importlib.metadata.version(name) for name in PACKAGES}
    return {**versions, "msdk": _digest_of(Path(__file__).parent.parent / "__init__.py")}


@functools.cache
def _digest_of(source: Path) -> str:
    """Digest of names, sizes and times of a package's files, or of the one file of a module."""
    files = sorted(source.parent.rglob("*.py")) if source.name == "__init__.py" else [source]
    found = hashlib.sha256()
    for file in files:
        status = file.stat()
        found.update(f"{file} {status.st_size} {status.st_mtime_ns}\n".encode())
    return found.hexdigest()[:16]
