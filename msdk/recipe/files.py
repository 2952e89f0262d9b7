"""Files that a recipe points to, as they were when it was read: what happens to them later changes no recipe."""

import hashlib
import json
import math
import os
import stat
import typing
from operator import attrgetter
from pathlib import Path

import attrs

from msdk.errors import PartError

MOST_CODE = 2**20
"""Bytes of a Python file of `use`."""
MOST_CLUSTERING = 2**26
"""Bytes of a clustering; its curves and matrices have thousands of numbers."""


def read_bounded(path: Path, most: int) -> bytes:
    """The content of a file. What is no regular file (a device, a pipe, a folder) is not read, as it may never end.

    Args:
        path: Of the file.
        most: Bytes that it may have.

    Raises:
        PartError: It cannot be read, is no regular file, or has more bytes.
    """
    try:
        kind = path.stat().st_mode  # opening a device can already do something
        if not stat.S_ISREG(kind):
            what = "folder" if stat.S_ISDIR(kind) else "device or a pipe"
            raise PartError(f"{path} cannot be read: it is a {what}, not a file")
        with open(path, "rb", opener=lambda name, flags: os.open(name, flags | NONBLOCK)) as file:
            content = file.read(most + 1) or b""
    except OSError as error:
        raise PartError(f"{path} cannot be read: {error.strerror}") from error
    except ValueError as error:
        if isinstance(error, PartError):
            raise
        raise PartError(f"{path} is no name of a file: it holds a NUL character") from error
    if len(content) > most:
        raise PartError(f"{path} has more than {most:,} bytes, which is no file of this kind")
    return content


NONBLOCK = getattr(os, "O_NONBLOCK", 0)
"""Some files of /proc are regular and yet wait for what they may tell."""


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


@attrs.frozen
class File:
    """A file by name and content; two that lie in different folders are equal.

    Attributes:
        path: Where it was read.
        content: What it held.
    """

    path: Path = attrs.field(eq=attrgetter("name"))
    content: bytes = attrs.field(repr=False)

    @classmethod
    def read(cls, path: Path) -> "File":
        """Reads a file.

        Raises:
            PartError: It cannot be read.
        """
        return cls(path, read_bounded(path, MOST_CODE))

    @property
    def name(self) -> str:
        """Its name without the folder."""
        return self.path.name

    @property
    def sha256(self) -> str:
        """Digest of its content."""
        return _sha256(self.content)


@attrs.frozen
class Artefact:
    """The clustering that `stages.from` names.

    Attributes:
        path: Where it was read.
        content: The JSON that `msdk cluster` wrote.
        edges_ratio: The interior edges that its one strategy found.
    """

    path: Path
    content: bytes = attrs.field(repr=False)
    edges_ratio: tuple[float, ...]

    @property
    def sha256(self) -> str:
        """Digest of its content."""
        return _sha256(self.content)

    @classmethod
    def read(cls, path: Path) -> "Artefact":
        """Reads the edges in a clustering.

        Raises:
            PartError: It cannot be read, or is not the clustering of one strategy.
        """
        content = read_bounded(path, MOST_CLUSTERING)
        try:
            (strategy,) = json.loads(content)["strategies"]
            return cls(path, content, tuple(_number(edge) for edge in _list(strategy["edges_ratio"])))
        except (ValueError, KeyError, TypeError, ArithmeticError, RecursionError) as error:
            raise PartError(f"{path} is not the clustering of one strategy, as `msdk cluster` writes it") from error


def _list(value: object) -> list[object]:
    if not isinstance(value, list):
        raise TypeError(value)
    return typing.cast("list[object]", value)


def _number(value: object) -> float:
    if type(value) not in (int, float) or not math.isfinite(typing.cast("float", value)):
        raise TypeError(value)
    return float(typing.cast("float", value))
