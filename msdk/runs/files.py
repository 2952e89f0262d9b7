"""Files that are written whole or not at all: temporary name, sync to disk, rename. Imports no torch."""

import contextlib
import errno
import glob
import json
import os
import secrets
import shutil
from collections.abc import Generator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from safetensors import SafetensorError

from msdk.errors import FullError, RunError

if TYPE_CHECKING:
    from torch import Tensor

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""Errors of the system that mean: no room left."""


@contextlib.contextmanager
def written_whole(path: Path, mark: object = None) -> Generator[Path]:
    """Gives a temporary path beside `path`; what is written there takes its place once it is on disk.

    Args:
        path: What is written.
        mark: Ends the temporary name, see `temporary_of`.

    Raises:
        RunError: The disk is full, or the place cannot be written; nothing of the attempt is left behind.
    """
    temporary = temporary_of(path, mark)
    try:
        yield temporary
        sync(temporary)
        if temporary.is_dir() and path.exists():
            remove_whole(path)
        temporary.replace(path)
        sync(path.parent, deep=False)
    except BaseException as error:
        if temporary.is_dir():
            shutil.rmtree(temporary, ignore_errors=True)
        else:
            with contextlib.suppress(OSError):
                temporary.unlink()
        if isinstance(error, (OSError, SafetensorError)):
            raise not_written(path, error) from error
        raise


def temporary_of(path: Path, mark: object = None) -> Path:
    """The name under which a path is written; with a mark that other processes know, if they write there too."""
    return path.with_name(f".{path.name}.{os.getpid() if mark is None else mark}.tmp")


def remove_whole(path: Path) -> None:
    """Removes a folder at once: a process that is killed meanwhile leaves a temporary name, never half a folder."""
    aside = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    path.rename(aside)
    shutil.rmtree(aside)


def sweep(path: Path) -> None:
    """Removes what killed processes left of writing a path. Only for who alone writes there, see `one_writer`."""
    for left in path.parent.glob(f".{glob.escape(path.name)}.*.tmp"):
        if left.is_dir():
            shutil.rmtree(left, ignore_errors=True)
        else:
            left.unlink(missing_ok=True)


def save_tensors(tensors: "Mapping[str, Tensor]", path: Path, metadata: Mapping[str, str] | None = None) -> None:
    """Writes tensors of any device and layout, which may be one under several names, as a safetensors file.

    It has the permissions that other new files get; safetensors itself lets nobody read.

    Args:
        tensors: By name.
        path: The file.
        metadata: Of the file's header.
    """
    from safetensors.torch import save_file

    whole: dict[str, Tensor] = {}
    held: set[int] = set()
    for name, tensor in tensors.items():
        value = tensor.detach().cpu().contiguous()
        place = value.untyped_storage().data_ptr()
        whole[name] = value.clone() if place in held else value  # safetensors refuses what shares memory
        held.add(place)
    path.touch()
    mode = path.stat().st_mode
    save_file(whole, path, None if metadata is None else dict(metadata))
    path.chmod(mode)


def not_written(path: Path, error: Exception) -> RunError:
    """What to raise where the system refused to write."""
    # safetensors passes the system's error on as text alone.
    full = any(f"os error {code}" in str(error) or getattr(error, "errno", 0) == code for code in FULL)
    reason = "the disk is full" if full else getattr(error, "strerror", None) or str(error)
    kind = FullError if full else RunError
    return kind(f"{path} cannot be written: {reason}. What was saved before is intact.")


def write_text(path: Path, text: str) -> None:
    """Writes a text file whole."""
    with written_whole(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_bytes(path: Path, data: bytes) -> None:
    """Writes a file whole."""
    with written_whole(path) as temporary:
        temporary.write_bytes(data)


def write_json(path: Path, data: object) -> None:
    """Writes a JSON file whole."""
    write_text(path, json.dumps(data, indent=2) + "\n")


def append_text(path: Path, text: str) -> None:
    """Adds to a text file that grows; a crash can cut only the text in hand."""
    try:
        with path.open("a", encoding="utf-8") as file:
            file.write(text)
    except OSError as error:
        raise not_written(path, error) from error


def sync(path: Path, *, deep: bool = True) -> None:
    """Returns once a file, or a folder and all that is in it, is on disk."""
    for inner in path.iterdir() if deep and path.is_dir() else ():
        sync(inner)
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
