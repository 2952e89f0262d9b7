"""Images in parquet files, as the Hugging Face hub keeps them."""

import bisect
import functools
import hashlib
import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs

from msdk.batch import Batch
from msdk.datasets.base import ImageFiles, Source, decode
from msdk.encoders.base import Shape
from msdk.errors import DataError

if TYPE_CHECKING:
    from torch import Tensor


class _Parquet(Source):
    """Row groups of files, one after another; a group is read when one of its images is asked for."""

    def __init__(self, files: Sequence[Path], shape: Shape, image: str, label: str | None) -> None:
        from pyarrow import ArrowInvalid, parquet  # pyright: ignore[reportMissingTypeStubs]

        arrow: Any = parquet
        self._shape, self._image = shape, image
        self._groups: list[tuple[Any, int]] = []
        counts: list[int] = []
        labels: list[int] = []
        listing = hashlib.sha256()
        for file in files:
            try:
                opened = arrow.ParquetFile(file)
            except (OSError, ArrowInvalid) as error:
                raise DataError(f"{file} is not a readable parquet file: {error}") from error
            names: list[str] = opened.schema_arrow.names
            for wanted in (image, *([label] if label else [])):
                if wanted not in names:
                    raise DataError(f"{file} has no column '{wanted}'. Columns: {', '.join(names)}.")
            for number in range(opened.num_row_groups):
                self._groups.append((opened, number))
                counts.append(opened.metadata.row_group(number).num_rows)
            if label:
                labels += opened.read(columns=[label]).column(label).to_pylist()
            listing.update(file.name.encode() + b"\0" + hashlib.sha256(file.read_bytes()).digest())
        self._ends = list(itertools.accumulate(counts))
        self.digest = listing.hexdigest()
        wrong = next((value for value in labels if type(value) is not int), None)
        if wrong is not None:
            raise DataError(f"the column '{label}' holds {wrong!r}, which is no whole number")
        self.labels = labels if label else None
        self._rows = functools.lru_cache(maxsize=4)(self._read_group)

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    def _read_group(self, number: int) -> list[Any]:
        opened, group = self._groups[number]
        return opened.read_row_group(group, columns=[self._image]).column(self._image).to_pylist()

    def read(self, indices: Sequence[int]) -> Batch:
        import torch

        return self.labelled(torch.stack([self._decoded(index) for index in indices]), indices)

    def _decoded(self, index: int) -> "Tensor":
        number = bisect.bisect_right(self._ends, index)
        value = self._rows(number)[index - (self._ends[number - 1] if number else 0)]
        content = value.get("bytes") if isinstance(value, dict) else value
        if not isinstance(content, bytes):
            raise DataError(f"row {index} of the column '{self._image}' holds no image file but {type(value).__name__}")
        return decode(content, f"row {index} of the column '{self._image}'", self._shape)


@attrs.frozen(kw_only=True)
class Parquet(ImageFiles):
    """The images of a parquet file, or of all in a folder in the order of their names.

    A column of images holds files as bytes, or tables with `bytes`, as Hugging Face's `Image` feature writes them.

    Args:
        path: A .parquet file, or a folder of them.
        size: Side of every image in pixels.
        channels: 3 for colour, 1 for grey; images are converted.
        image: The column of images.
        label: The column of classes, whole numbers; none when not given.
    """

    image: str = "image"
    label: str | None = None

    def open(self) -> Source:
        files = [self.path] if self.path.is_file() else sorted(self.path.rglob("*.parquet"))
        if not files:
            raise DataError(f"there is no parquet file at {self.path}: set data.path")
        source = _Parquet(files, self.shape, self.image, self.label)
        if not len(source):
            raise DataError(f"the parquet files at {self.path} have no rows")
        return source
