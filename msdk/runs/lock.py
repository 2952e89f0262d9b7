"""What made a run: versions, distributions of its parts, data, code and command."""

import hashlib
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from msdk import __version__
from msdk.recipe import Recipe
from msdk.recipe.structuring import parts_of, to_data


def lock(
    recipe: Recipe, data_digest: str, autoencoder: bytes | None = None, forked_from: Sequence[Mapping[str, str]] = ()
) -> dict[str, Any]:
    """What made a run: versions, distributions of the parts it uses, data, code, command, and runs before it."""
    origins = [registry.origin(registry.name_of(type(part))) for part, registry in parts_of(recipe)]
    edges = recipe.stages.from_
    return {
        "msdk": __version__,
        "python": sys.version.split()[0],
        "torch": str(torch.__version__),
        "plugins": {origin.owner: origin.version for origin in origins if origin.version and origin.owner != "msdk"},
        "use": {file.name: file.sha256 for file in recipe.use},
        "stages_from": None if edges is None else {"file": str(edges.path), "sha256": edges.sha256},
        "data": {"name": to_data(recipe.data)["name"], "sha256": data_digest},
        "autoencoder": None if autoencoder is None else _origin_of(recipe, autoencoder),
        "forked_from": list(forked_from),
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
