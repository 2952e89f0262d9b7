"""Images in a zip file, in the layout of EDM."""

import hashlib
import json
import lzma
import struct
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

import attrs

from msdk.batch import Batch
from msdk.datasets.base import ImageFiles, Source, decode, most_bytes
from msdk.datasets.folder import LABELS, SUFFIXES, hidden, refuse_others
from msdk.encoders.base import Shape
from msdk.errors import DataError, quoted

if TYPE_CHECKING:
    from torch import Tensor


MOST_LABELS = 2**27
"""Bytes of dataset.json: some of two million images have a third of it."""

UNREADABLE = (zipfile.BadZipFile, zlib.error, lzma.LZMAError, struct.error, OSError, EOFError, ValueError, RuntimeError)
"""What zipfile raises for broken, encrypted and exotic entries."""


class _Zip(Source):
    def __init__(self, path: Path, shape: Shape) -> None:
        if not path.is_file():
            raise DataError(f"there is no file {path}: set data.path")
        try:
            self._zip = zipfile.ZipFile(path)
        except UNREADABLE as error:
            raise DataError(f"{path} is not a readable zip file: {error}") from error
        self._path, self._shape = path, shape
        checksums = {info.filename: info.CRC for info in self._zip.infolist() if not info.is_dir()}
        checksums = {name: crc for name, crc in checksums.items() if not hidden(PurePosixPath(name).parts)}
        self._names = sorted(name for name in checksums if PurePosixPath(name).suffix.lower() in SUFFIXES)
        if not self._names:
            raise DataError(f"the zip file {path} holds no images ({', '.join(sorted(SUFFIXES))})")
        refuse_others(map(PurePosixPath, checksums), path)
        nested = [name for name in checksums if PurePosixPath(name).name == LABELS and name != LABELS]
        if nested:
            raise DataError(f"{nested[0]} in {path} is not read in a folder: zip its content, not the folder")
        listed = [*self._names, *(name for name in checksums if name == LABELS)]
        listing = "".join(f"{name}\0{checksums[name]:08x}\n" for name in listed)
        self.digest = hashlib.sha256(listing.encode()).hexdigest()
        self.labels = self._read_labels()

    def _read_labels(self) -> list[int] | None:
        if LABELS not in self._zip.namelist():
            return None
        try:
            listed = json.loads(self._content(LABELS, MOST_LABELS)).get("labels")
            pairs: list[tuple[str, int]] = [(name, label) for name, label in listed or ()]
            known = dict(pairs)
        except DataError:
            raise
        except (*UNREADABLE, TypeError, AttributeError, RecursionError) as error:
            raise DataError(f'{LABELS} in {self._path} is not {{"labels": [[name, class], ...]}}: {error}') from error
        for name, label in known.items():
            if type(label) is not int:
                raise DataError(f"the class of {name} in {LABELS} of {self._path} is no whole number: {quoted(label)}")
            if not -1 <= label < 2**31:
                raise DataError(f"the class of {name} in {LABELS} of {self._path} is out of range: {quoted(label)}")
        for name, label in pairs:
            if known[name] != label:
                raise DataError(f"{LABELS} of {self._path} gives {name} two classes, {label} and {known[name]}")
        if not known:
            return None
        missing = [name for name in self._names if name not in known]
        if missing:
            others = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
            raise DataError(f"{LABELS} in {self._path} has no label for {missing[0]}{others}")
        return [known[name] for name in self._names]

    def __len__(self) -> int:
        return len(self._names)

    def read(self, indices: Sequence[int]) -> Batch:
        import torch

        return self.labelled(torch.stack([self._decoded(self._names[index]) for index in indices]), indices)

    def _content(self, name: str, most: int) -> bytes:
        """An entry of at most so many bytes, whatever its headers say."""
        info = self._zip.getinfo(name)
        if info.file_size > most:
            raise DataError(f"{name} in {self._path} has {info.file_size:,} bytes; at most {most:,} are read")
        if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            # zipfile does not bound what a piece of the others becomes, where an entry lies about its length.
            raise DataError(
                f"{name} in {self._path} is compressed in another way than deflate: zip it anew, or store it"
            )
        with self._zip.open(info) as file:
            return file.read(info.file_size + 1)

    def _decoded(self, name: str) -> "Tensor":
        try:
            content = self._content(name, most_bytes(self._shape))
        except DataError:
            raise
        except UNREADABLE as error:
            raise DataError(f"the image {name} in {self._path} cannot be read: {error}") from error
        return decode(content, f"{name} in {self._path}", self._shape)


@attrs.frozen(kw_only=True)
class Zip(ImageFiles):
    """All images in a zip file, square and of one size; `dataset.json`, where there is one, gives their classes.

    Args:
        path: The zip file.
        size: Side of every image in pixels.
        channels: 3 for colour, 1 for grey; images are converted.
    """

    def open(self) -> Source:
        return _Zip(self.path, self.shape)
