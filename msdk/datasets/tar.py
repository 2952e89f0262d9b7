"""Images in a tar file, in the layout of webdataset: what has one name but for its ending belongs together."""

import functools
import hashlib
import os
import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self, cast

import attrs

from msdk.datasets.base import FileSource, ImageError, ImageFiles
from msdk.datasets.listing import LABELS, NO_IMAGE, listed
from msdk.datasets.notes import Notes, read_notes
from msdk.encoders.base import Shape
from msdk.errors import DataError, quoted

MOST_CLASS = 32
"""Bytes of the text of a class."""


class _Tar(FileSource):
    parallel = True

    def __init__(self, path: Path, shape: Shape) -> None:
        super().__init__(shape)
        if not path.is_file():
            raise DataError(f"there is no file {path}: set data.path")
        self._path = path
        self._entries = entries(path)
        found = listed((name for name in self._entries if suffix_of(name) != ".cls"), path, "tar file")
        self._names = sorted(found.images)
        self.passed_over = found.passed_over
        self.problems = list(found.problems)
        keys = [key_of(name) for name in self._names]
        if len(set(keys)) < len(keys):
            twice = next(name for name, key in zip(self._names, keys, strict=True) if keys.count(key) > 1)
            self.problems.append(f"{path} has two images of one name, {key_of(twice)}: give each a name of its own")
        notes = Notes()
        if LABELS in self._entries:
            try:
                notes = read_notes(self._bytes(LABELS), path)
            except DataError as error:
                self.problems.append(str(error))
        self.protocol, self.jpeg, names = notes.protocol, notes.jpeg, notes.class_names
        classes = {key_of(name): name for name in self._entries if suffix_of(name) == ".cls"}
        self.labels = None
        if not classes:
            self.unlabelled = f"{path} has no .cls beside its images, which gives classes"
            return
        try:
            self.labels = [self._label(classes, key) for key in keys]
        except DataError as error:
            self.problems.append(str(error))
            return
        alone = sorted(set(classes) - set(keys))
        if alone:
            self.passed_over = {**self.passed_over, NO_IMAGE: [classes[key] for key in alone]}
        self.class_names = names if names is not None and len(names) > max(self.labels, default=-1) else None

    def _label(self, classes: Mapping[str, str], key: str) -> int:
        if key not in classes:
            raise DataError(f"{self._path} has no {key}.cls, but other images have their class")
        text = self._bytes(classes[key], MOST_CLASS)
        try:
            label = int(text)
        except ValueError:
            label = -2
        if not -1 <= label < 2**31:
            raise DataError(f"{classes[key]} in {self._path} is no class, a whole number: {quoted(text)}")
        return label

    @functools.cached_property
    def digest(self) -> str:  # pyright: ignore[reportIncompatibleVariableOverride]  reads the whole file, so only if asked
        with self._path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()

    def __len__(self) -> int:
        return len(self._names)

    def name(self, index: int) -> str:
        return f"{self._names[index]} in {self._path}"

    def content(self, index: int, most: int) -> bytes:
        return self._bytes(self._names[index], most)

    def _bytes(self, name: str, most: int = 2**27) -> bytes:
        return entry(self._path, name, *self._entries[name], most)


def entries(path: Path, base: int = 0, size: int | None = None) -> dict[str, tuple[int, int]]:
    """The regular files of a tar, whole or inside of another file: name -> where its bytes begin, and how many.

    Raises:
        DataError: It is damaged, compressed, or has two entries of one name.
    """
    found: dict[str, tuple[int, int]] = {}
    try:
        with path.open("rb") as file, tarfile.open(fileobj=cast("Any", _Piece(file, base, size)), mode="r:") as tar:
            for member in tar:
                if not member.isreg() or member.issparse():
                    continue
                name = member.name.removeprefix("./")
                if name in found:
                    raise DataError(f"{path} has two entries of one name, {name}: pack its content anew")
                found[name] = base + member.offset_data, member.size
    except (tarfile.TarError, OSError, ValueError, EOFError) as error:
        hint = (
            "" if path.name.endswith(".tar") else ": unpack it to a plain .tar first, whose entries can be read apart"
        )
        raise DataError(f"{path} is not a readable tar file: {error}{hint}") from error
    return found


def entry(path: Path, name: str, start: int, size: int, most: int) -> bytes:
    """The bytes of an entry of a tar file, of at most so many."""
    place = f"{name} in {path}"
    if size > most:
        raise ImageError(place, f"has {size:,} bytes; at most {most:,} are read", "too many bytes")
    try:
        # Opened each time, so that several threads and processes read at once.
        with path.open("rb") as file:
            content = os.pread(file.fileno(), size, start)
    except OSError as error:
        raise ImageError(place, f"cannot be read: {error.strerror}", "cannot be read") from error
    if len(content) < size:
        raise ImageError(place, "is cut off", "damaged")
    return content


class _Piece:
    """A part of a file as a file, which is all that tarfile asks for."""

    def __init__(self, file: Any, base: int, size: int | None) -> None:
        self._file, self._base, self._at = file, base, 0
        self._size = os.fstat(file.fileno()).st_size - base if size is None else size

    def read(self, count: int = -1) -> bytes:
        left = max(0, self._size - self._at)
        self._file.seek(self._base + self._at)
        content = cast("bytes", self._file.read(left if count < 0 else min(count, left)))
        self._at += len(content)
        return content

    def seek(self, offset: int, whence: int = 0) -> int:
        self._at = offset + (0, self._at, self._size)[whence]
        return self._at

    def tell(self) -> int:
        return self._at


def key_of(name: str) -> str:
    """What belongs together has this: the name up to the first dot of its last part."""
    folder, slash, last = name.rpartition("/")
    return folder + slash + last.partition(".")[0]


def suffix_of(name: str) -> str:
    return "." + name.rpartition("/")[2].rpartition(".")[2].lower()


@attrs.frozen(kw_only=True)
class Tar(ImageFiles):
    """All images in an uncompressed tar file, square and of one size, as webdataset lays them out.

    `a.png` has its class in `a.cls`, a number as text. Names of classes may stand in `dataset.json`, as in a zip.

    Args:
        path: The tar file.
        size: Side of every image in pixels.
        channels: 3 for colour, 1 for grey; images are converted.
        protocol: What the images were made by, as `msdk data prepare` notes it; others are refused.
        sha256: Digest of the data, or how it begins; others are refused.
    """

    def look(self) -> FileSource:
        return _Tar(self.path, self.shape)

    @classmethod
    def found_at(cls, path: Path) -> Self | None:
        return cls(path=path) if path.suffix.lower() == ".tar" else None
