"""Images in a folder."""

import functools
import hashlib
import os
import stat
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path, PurePath

import attrs

from msdk.batch import Batch
from msdk.datasets.base import ImageFiles, Source, decode, most_bytes
from msdk.encoders.base import Shape
from msdk.errors import DataError

SUFFIXES = {".png", ".jpg", ".jpeg", ".webp", ".bmp"}
"""Files with these endings are images."""

OTHERS = frozenset(
    (
        *(".avif", ".dng", ".exr", ".gif", ".hdr", ".heic", ".heif", ".jfif", ".jp2", ".jpe", ".jxl"),
        *(".pbm", ".pcx", ".pgm", ".pnm", ".ppm", ".psd", ".svg", ".tga", ".tif", ".tiff"),
    )
)
"""Files with these endings are images that are not read: no data set leaves them out in silence."""

LABELS = "dataset.json"
"""The entry of a zip file that gives classes: `{"labels": [[name, class], ...]}`."""


def hidden(parts: Iterable[str]) -> bool:
    """Whether a path leads through what systems and editors hide: names with a dot, and what macOS adds to zips."""
    return any(part.startswith(".") or part == "__MACOSX" for part in parts)


def refuse_others(names: Iterable[PurePath], place: Path) -> None:
    """Raises a `DataError` where images would be left out for their endings."""
    found = Counter(suffix for name in names if (suffix := name.suffix.lower()) in OTHERS)
    if found:
        told = ", ".join(f"{count:,} {suffix}" for suffix, count in sorted(found.items()))
        raise DataError(
            f"{place} also holds images that are not read ({told}): convert them to PNG, or move them elsewhere"
        )


def _files_below(folder: Path, above: tuple[tuple[int, int], ...] = ()) -> Iterator[Path]:
    """Every file that is not hidden, also below links to folders."""
    here = folder.stat()
    if (here.st_dev, here.st_ino) in above:
        raise DataError(f"{folder} leads back to a folder that it lies in: remove the link")
    with os.scandir(folder) as found:
        entries = list(found)
    for entry in entries:
        if hidden([entry.name]):
            continue
        path = folder / entry.name
        if entry.is_dir():
            yield from _files_below(path, (*above, (here.st_dev, here.st_ino)))
        elif path.suffix.lower() in SUFFIXES and not stat.S_ISREG(path.stat().st_mode):
            raise DataError(f"the image {path} is a device or a pipe, not a file")
        else:
            yield path


class _Folder(Source):
    def __init__(self, path: Path, shape: Shape) -> None:
        if not path.is_dir():
            raise DataError(f"there is no folder {path}: set data.path")
        self._path, self._shape = path, shape
        try:
            found = list(_files_below(path))
        except OSError as error:
            raise DataError(f"{error.filename} cannot be read: {error.strerror}") from error
        self._files = sorted(file for file in found if file.suffix.lower() in SUFFIXES)
        refuse_others(found, path)
        for file in found:
            if file.name == LABELS:
                raise DataError(f"{file} says which classes images have, but only those in a zip: zip the folder")
        if not self._files:
            raise DataError(f"the folder {path} holds no images ({', '.join(sorted(SUFFIXES))})")
        self.labels = self._read_labels()

    def _read_labels(self) -> list[int] | None:
        """The number of each image's sub-folder, or None where an image lies in the folder itself."""
        places = [file.relative_to(self._path).parts for file in self._files]
        if any(len(parts) == 1 for parts in places):
            return None
        numbers = {name: number for number, name in enumerate(sorted({parts[0] for parts in places}))}
        return [numbers[parts[0]] for parts in places]

    @functools.cached_property
    def digest(self) -> str:  # pyright: ignore[reportIncompatibleVariableOverride]  reads every file, so only if asked
        listing = hashlib.sha256()
        for file in self._files:
            listing.update(f"{file.relative_to(self._path).as_posix()}\0".encode())
            with file.open("rb") as content:
                listing.update(hashlib.file_digest(content, "sha256").digest())
        return listing.hexdigest()

    def __len__(self) -> int:
        return len(self._files)

    def read(self, indices: Sequence[int]) -> Batch:
        import torch

        files = [self._files[index] for index in indices]
        try:
            images = [decode(self._content(file), str(file), self._shape) for file in files]
        except OSError as error:
            raise DataError(f"the image {error.filename} cannot be read: {error.strerror}") from error
        return self.labelled(torch.stack(images), indices)

    def _content(self, file: Path) -> bytes:
        size, most = file.stat().st_size, most_bytes(self._shape)
        if size > most:
            raise DataError(f"the image {file} has {size:,} bytes; at most {most:,} are read")
        return file.read_bytes()


@attrs.frozen(kw_only=True)
class Folder(ImageFiles):
    """All images below a folder, square and of one size, in the order of their paths; hidden ones are passed over.

    Where every image lies in a sub-folder, these are the classes, in the order of their names.

    Args:
        path: The folder.
        size: Side of every image in pixels.
        channels: 3 for colour, 1 for grey; images are converted.
    """

    def open(self) -> Source:
        return _Folder(self.path, self.shape)
