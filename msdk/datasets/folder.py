"""Images in a folder."""

import contextlib
import functools
import hashlib
import io
import os
import stat
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import BinaryIO, Self, cast

import attrs

from msdk.datasets.base import LARGEST, FileSource, ImageError, ImageFiles, most_bytes
from msdk.datasets.listing import SUFFIXES, hidden, listed, some, suffix
from msdk.encoders.base import Shape
from msdk.errors import DataError


def _files_below(folder: str, prefix: str = "", above: tuple[tuple[int, int], ...] = ()) -> Iterator[str]:
    """The name of every file, also below links to folders; hidden folders are not looked into."""
    here = os.stat(folder)
    if (here.st_dev, here.st_ino) in above:
        raise DataError(f"{folder} leads back to a folder that it lies in: remove the link")
    with os.scandir(folder) as found:
        entries = list(found)
    for entry in entries:
        if hidden(entry.name):
            yield f"{prefix}{entry.name}" + ("/" if entry.is_dir() else "")
        elif entry.is_dir():
            yield from _files_below(entry.path, f"{prefix}{entry.name}/", (*above, (here.st_dev, here.st_ino)))
        else:
            # A dead link may be to a class or an image: that is no file to pass over.
            if (entry.is_symlink() or suffix(entry.name) in SUFFIXES) and not stat.S_ISREG(os.stat(entry.path).st_mode):
                raise DataError(f"{entry.path} is a device or a pipe, not a file")
            yield prefix + entry.name


class _Folder(FileSource):
    parallel = True

    def __init__(self, path: Path, shape: Shape) -> None:
        super().__init__(shape)
        if not path.is_dir():
            raise DataError(f"there is no folder {path}: set data.path")
        self._path = path
        try:
            found = listed(_files_below(str(path)), path, "folder")
        except OSError as error:
            raise DataError(f"{error.filename} cannot be read: {error.strerror}") from error
        self._names = sorted(found.images, key=lambda name: name.split("/"))
        self.passed_over = found.passed_over
        told = "says which classes images have, but only those in a zip: zip the folder"
        self.problems = [*(f"{path / name} {told}" for name in found.classes), *found.problems]
        folders = [name.partition("/")[0] for name in self._names if "/" in name]
        beside = [name for name in self._names if "/" not in name]
        self.labels = None
        if folders and not beside:
            names = sorted(set(folders))
            numbers = {name: number for number, name in enumerate(names)}
            self.labels, self.class_names = [numbers[name] for name in folders], names
        elif folders:
            self.unlabelled = f"{some(beside)} in {path} lie beside the folders that would be classes"

    @functools.cached_property
    def digest(self) -> str:  # pyright: ignore[reportIncompatibleVariableOverride]  reads every file, so only if asked
        listing, most = hashlib.sha256(), max(most_bytes(self.shape), LARGEST)
        for index, name in enumerate(self._names):
            listing.update(os.fsencode(name) + b"\0")
            with self._opened(index, most) as content:
                listing.update(hashlib.file_digest(cast("io.BufferedReader", content), "sha256").digest())
        return listing.hexdigest()

    def __len__(self) -> int:
        return len(self._names)

    def name(self, index: int) -> str:
        return str(self._path / self._names[index])

    def content(self, index: int, most: int) -> bytes:
        with self._opened(index, most) as file:
            return file.read(most)

    @contextlib.contextmanager
    def _opened(self, index: int, most: int) -> Generator[BinaryIO]:
        """The file of an image, of at most so many bytes."""
        name = self.name(index)
        try:
            with open(name, "rb") as file:
                size = os.fstat(file.fileno()).st_size
                if size > most:
                    raise ImageError(name, f"has {size:,} bytes; at most {most:,} are read", "too many bytes")
                yield file
        except OSError as error:
            raise ImageError(name, f"cannot be read: {error.strerror}", "cannot be read") from error


@attrs.frozen(kw_only=True)
class Folder(ImageFiles):
    """All images below a folder, square and of one size, in the order of their paths; hidden ones are passed over.

    Where every image lies in a sub-folder, these are the classes, in the order of their names.

    Args:
        path: The folder.
        size: Side of every image in pixels.
        channels: 3 for colour, 1 for grey; images are converted.
        protocol: What the images were made by, as `msdk data prepare` notes it; others are refused.
        sha256: Digest of the data, or how it begins; others are refused.
    """

    def look(self) -> FileSource:
        return _Folder(self.path, self.shape)

    @classmethod
    def found_at(cls, path: Path) -> Self | None:
        return cls(path=path) if path.is_dir() else None
