"""Reads checkpoint files as data: safetensors, or torch files that hold nothing but tensors and plain containers."""

import json
import pickle
import re
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open

from msdk.errors import RunError

WAY_OUT = """\
msdk never runs the code of a checkpoint. Where the original's program is installed and trusted, save the tensors alone,
    torch.save(network.state_dict(), "weights.pt")
and convert that file. The network is pickle.load(file)["ema"] in EDM's .pkl files; of an LDM .ckpt, save
{"state_dict": torch.load(file, weights_only=False)["state_dict"]}, which keeps averages and autoencoder too."""


def read_checkpoint(path: Path) -> tuple[Mapping[str, Any], Mapping[str, Any] | None]:
    """The content of a checkpoint file, and the configuration that a safetensors file may carry as `config`.

    Raises:
        RunError: It cannot be read, or it is a pickle that needs code; the message explains the way out.
    """
    try:
        if path.suffix == ".safetensors":
            return _safetensors(path)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of the pickle protocol: what cannot be read is refused below
            saved = torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except OSError as error:
        raise RunError(f"{path} cannot be read: {error.strerror or error}") from error
    except (SafetensorError, json.JSONDecodeError) as error:
        raise RunError(f"{path} is no safetensors file that can be read: {error}") from error
    except (pickle.UnpicklingError, RuntimeError, ValueError, EOFError, LookupError, TypeError) as error:
        named = re.search(r"GLOBAL (\S+)", str(error))
        reason = f"its pickle calls {named[1]}" if named else "it is another format, or its pickle holds code"
        raise RunError(f"{path} cannot be read as data: {reason}.\n{WAY_OUT}") from error
    if not isinstance(saved, Mapping) or not all(isinstance(key, str) for key in saved):
        raise RunError(f"{path} holds a {type(saved).__name__} that is not tensors by name")
    return saved, None  # pyright: ignore[reportUnknownVariableType]  plain data, of any type


def _safetensors(path: Path) -> tuple[Mapping[str, Any], Mapping[str, Any] | None]:
    with safe_open(path, framework="pt") as file:
        note = (file.metadata() or {}).get("config")
        tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118  a file is no mapping
    config = json.loads(note) if note else None
    if config is not None and not isinstance(config, dict):
        raise RunError(f"the metadata `config` of {path} is not a JSON object")
    return tensors, config
