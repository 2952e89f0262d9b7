"""Files that a recipe points to, as they were when it was read: what happens to them later changes no recipe."""

import hashlib
import json
import math
import typing
from operator import attrgetter
from pathlib import Path

import attrs

from msdk.errors import PartError


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise PartError(f"{path} cannot be read: {error.strerror}") from error


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
        return cls(path, _bytes(path))

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
        content = _bytes(path)
        try:
            (strategy,) = json.loads(content)["strategies"]
            return cls(path, content, tuple(_number(edge) for edge in _list(strategy["edges_ratio"])))
        except (ValueError, KeyError, TypeError, ArithmeticError) as error:
            raise PartError(f"{path} is not the clustering of one strategy, as `msdk cluster` writes it") from error


def _list(value: object) -> list[object]:
    if not isinstance(value, list):
        raise TypeError(value)
    return typing.cast("list[object]", value)


def _number(value: object) -> float:
    if type(value) not in (int, float) or not math.isfinite(typing.cast("float", value)):
        raise TypeError(value)
    return float(typing.cast("float", value))
