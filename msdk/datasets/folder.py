"""Images in a folder."""

import functools
import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import attrs

from msdk.batch import Batch
from msdk.datasets.base import ImageFiles, Source, decode
from msdk.encoders.base import Shape
from msdk.errors import DataError

if TYPE_CHECKING:
    pass

SUFFIXES = {".png", ".jpg", ".jpeg", ".webp", ".bmp"}
"""Files with these endings are images; everything else is passed over."""


class _Folder(Source):
    def __init__(self, path: Path, shape: Shape) -> None:
        if not path.is_dir():
            raise DataError(f"there is no folder {path}: set data.path")
        self._path, self._shape = path, shape
        self._files = sorted(file for file in path.rglob("*") if file.suffix.lower() in SUFFIXES and file.is_file())
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
            listing.update(hashlib.sha256(file.read_bytes()).digest())
        return listing.hexdigest()

    def __len__(self) -> int:
        return len(self._files)

    def read(self, indices: Sequence[int]) -> Batch:
        import torch

        files = [self._files[index] for index in indices]
        try:
            images = [decode(file.read_bytes(), str(file), self._shape) for file in files]
        except OSError as error:
            raise DataError(f"the image {error.filename} cannot be read: {error.strerror}") from error
        return self.labelled(torch.stack(images), indices)


@attrs.frozen(kw_only=True)
class Folder(ImageFiles):
    """All images below a folder, square and of one size, in the order of their paths.

    Where every image lies in a sub-folder, these are the classes, in the order of their names.

    Args:
        path: The folder.
        size: Side of every image in pixels.
        channels: 3 for colour, 1 for grey; images are converted.
    """

    def open(self) -> Source:
        return _Folder(self.path, self.shape)
