"""Files of extractors' weights, which a user has: where they lie, what they should be, read without running them."""

import hashlib
import io
import os
import pickle
from pathlib import Path
from typing import Any

import attrs

from msdk.errors import PartError

VARIABLE = "MSDK_WEIGHTS"
"""Environment variable that names a file of weights, or a folder that holds such files under their usual names."""


@attrs.frozen(kw_only=True)
class Published:
    """Weights that are usually had somewhere.

    Attributes:
        extractor: Whose.
        what: In words.
        names: Of the file, as it is usually called.
        place: Where it is usually had.
        sha256: What its SHA-256 begins with; empty where that is not known here.
    """

    extractor: str
    what: str
    names: tuple[str, ...]
    place: str
    sha256: str = ""


def found(published: Published, weights: Path | None) -> Path:
    """The file of an extractor's weights, by its setting or the environment.

    Raises:
        PartError: There is none.
    """
    told, where = (weights, "its setting `weights`") if weights is not None else (None, f"${VARIABLE}")
    if told is None and os.environ.get(VARIABLE):
        told = Path(os.environ[VARIABLE])
    if told is not None and told.is_dir():
        told = next((told / name for name in published.names if (told / name).is_file()), told)
    if told is not None and told.is_file():
        return told
    given = "is not given" if told is None else f"is {told}, where no such file lies"
    digest = f" Its SHA-256 begins with {published.sha256}." if published.sha256 else " Its SHA-256 is not known here."
    raise PartError(
        f"the extractor '{published.extractor}' needs a file of weights, and {where} {given}. It is {published.what}, "
        f"usually called {published.names[0]} and had from {published.place}.{digest} msdk downloads nothing: put the "
        f"file somewhere and name it by `weights` or {VARIABLE}. Without it there are the metrics denoising-loss, and "
        "for digits the extractor digits (--extractor digits)"
    )


def read(path: Path) -> tuple[dict[str, Any], str]:
    """The tensors of a file, and its SHA-256. Pickled code is refused, not run.

    Raises:
        PartError: It cannot be read as tensors by name.
    """
    import torch
    from safetensors import SafetensorError
    from safetensors.torch import load

    try:
        content = path.read_bytes()
        if path.suffix == ".safetensors":
            state: Any = load(content)
        else:
            state = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except OSError as error:
        raise PartError(f"{path} cannot be read: {error.strerror}") from error
    except (SafetensorError, pickle.UnpicklingError, RuntimeError, ValueError, EOFError, KeyError) as error:
        raise PartError(f"{path} holds no tensors by name that can be read without running code") from error
    if not isinstance(state, dict) or not all(isinstance(each, torch.Tensor) for each in state.values()):
        raise PartError(f"{path} holds no tensors by name: it should be the state_dict of an extractor")
    return state, hashlib.sha256(content).hexdigest()
