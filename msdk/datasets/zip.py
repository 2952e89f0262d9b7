"""Images in a zip file, in the layout of EDM."""

import hashlib
import lzma
import struct
import threading
import zipfile
import zlib
from pathlib import Path
from typing import Self

import attrs

from msdk.datasets.base import FileSource, ImageError, ImageFiles
from msdk.datasets.listing import LABELS, hidden, listed, some
from msdk.datasets.notes import read_notes
from msdk.encoders.base import Shape
from msdk.errors import DataError, quoted

MOST_LABELS = 2**27
"""Bytes of dataset.json: some of two million images have a third of it."""

UNREADABLE = (zipfile.BadZipFile, zlib.error, lzma.LZMAError, struct.error, OSError, EOFError, ValueError, RuntimeError)
"""What zipfile raises for broken, encrypted and exotic entries."""


class _Zip(FileSource):
    parallel = True

    def __init__(self, path: Path, shape: Shape) -> None:
        super().__init__(shape)
        if not path.is_file():
            raise DataError(f"there is no file {path}: set data.path")
        try:
            self._zip = zipfile.ZipFile(path)
        except UNREADABLE as error:
            raise DataError(f"{path} is not a readable zip file: {error}") from error
        self._path, self._reading = path, threading.Lock()
        files = [info for info in self._zip.infolist() if not info.is_dir()]
        checksums = {info.filename: info.CRC for info in files}
        found = listed(checksums, path, "zip file")
        self._names = sorted(found.images)
        self.passed_over = found.passed_over
        self.problems = list(found.problems)
        if len(checksums) < len(files):
            seen: set[str] = set()
            twice = [each.filename for each in files if each.filename in seen or seen.add(each.filename)]
            if not all(map(hidden, twice)):
                self.problems.append(f"{path} has two entries of one name, {some(twice)}: zip its content anew")
        nested = [name for name in found.classes if name != LABELS]
        if nested:
            self.problems.append(f"{nested[0]} in {path} is not read in a folder: zip its content, not the folder")
        listing = "".join(f"{name}\0{checksums[name]:08x}\n" for name in (*self._names, *found.classes))
        self.digest = hashlib.sha256(listing.encode(errors="surrogatepass")).hexdigest()
        self.labels = None
        if LABELS not in checksums:
            self.unlabelled = f"{path} has no {LABELS}, which gives classes"
        elif self._names:
            try:
                self._read_labels()
            except DataError as error:
                self.problems.append(str(error))

    def _read_labels(self) -> None:
        """Takes classes, their names and the protocol from dataset.json."""
        try:
            content = self._content(LABELS, MOST_LABELS)
        except DataError:
            raise
        except UNREADABLE as error:
            raise DataError(f'{LABELS} in {self._path} is not {{"labels": [[name, class], ...]}}: {error}') from error
        notes = read_notes(content, self._path)
        self.protocol, self.jpeg = notes.protocol, notes.jpeg
        if not notes.labels:
            self.unlabelled = f"{LABELS} of {self._path} gives no classes"
            return
        missing = [name for name in self._names if name not in notes.labels]
        if missing:
            others = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
            raise DataError(f"{LABELS} in {self._path} has no label for {missing[0]}{others}")
        self.labels = [notes.labels[name] for name in self._names]
        names, count = notes.class_names, max(self.labels) + 1
        if names is not None and len(names) < count:
            raise DataError(
                f"class_names in {LABELS} of {self._path} are the names of class 0 to class {count - 1}, a list of "
                f"text, got {quoted(names)}"
            )
        self.class_names = names

    def __len__(self) -> int:
        return len(self._names)

    def name(self, index: int) -> str:
        return f"{self._names[index]} in {self._path}"

    def content(self, index: int, most: int) -> bytes:
        try:
            return self._content(self._names[index], most)
        except DataError:
            raise
        except UNREADABLE as error:
            raise ImageError(self.name(index), f"cannot be read: {error}", "damaged") from error

    def _content(self, name: str, most: int) -> bytes:
        """An entry of at most so many bytes, whatever its headers say."""
        info = self._zip.getinfo(name)
        if info.file_size > most:
            what = f"has {info.file_size:,} bytes; at most {most:,} are read"
            raise self._refused(name, what, "too many bytes")
        if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            # zipfile does not bound what a piece of the others becomes, where an entry lies about its length.
            what = "is compressed in another way than deflate: zip it anew, or store it"
            raise self._refused(name, what, "another compression")
        with self._reading, self._zip.open(info) as file:  # zipfile counts what is open, and not for several threads
            return file.read(info.file_size + 1)

    def _refused(self, name: str, what: str, reason: str) -> DataError:
        place = f"{name} in {self._path}"
        return DataError(f"{place} {what}") if name == LABELS else ImageError(place, what, reason)


@attrs.frozen(kw_only=True)
class Zip(ImageFiles):
    """All images in a zip file, square and of one size; `dataset.json`, where there is one, gives their classes.

    It is `{"labels": [["a.png", 0], ...], "class_names": ["cat", ...]}`; names may be left out.

    Args:
        path: The zip file.
        size: Side of every image in pixels.
        channels: 3 for colour, 1 for grey; images are converted.
        protocol: What the images were made by, as `msdk data prepare` notes it; others are refused.
        sha256: Digest of the data, or how it begins; others are refused.
    """

    def look(self) -> FileSource:
        return _Zip(self.path, self.shape)

    @classmethod
    def found_at(cls, path: Path) -> Self | None:
        return cls(path=path) if path.suffix.lower() == ".zip" else None
