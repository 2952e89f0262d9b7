"""Images in parquet files, as the Hugging Face hub keeps them."""

import bisect
import functools
import hashlib
import itertools
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import attrs

from msdk.datasets.base import FileSource, ImageError, ImageFiles, Source
from msdk.encoders.base import Shape
from msdk.errors import DataError


class _Parquet(FileSource):
    """Row groups of files, one after another; a group is read when one of its images is asked for."""

    def __init__(self, files: Sequence[Path], shape: Shape, image: str, label: str | None) -> None:
        from pyarrow import ArrowInvalid, parquet  # pyright: ignore[reportMissingTypeStubs]

        super().__init__(shape)
        arrow: Any = parquet
        self._image = image
        self._groups: list[tuple[Any, int, Path]] = []
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
                self._groups.append((opened, number, file))
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
        self.unlabelled = "" if label else "data.label names the column of classes"
        self.class_names = _names_of(self._groups[0][0].schema_arrow, label) if label and self._groups else None
        self._rows = functools.lru_cache(maxsize=4)(self._read_group)

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    def _read_group(self, number: int) -> list[Any]:
        opened, group, _ = self._groups[number]
        return opened.read_row_group(group, columns=[self._image]).column(self._image).to_pylist()

    def name(self, index: int) -> str:
        file = self._groups[bisect.bisect_right(self._ends, index)][2]
        return f"in row {index} of the column '{self._image}' ({file})"

    def content(self, index: int, most: int) -> bytes:
        number = bisect.bisect_right(self._ends, index)
        value = self._rows(number)[index - (self._ends[number - 1] if number else 0)]
        content = value.get("bytes") if isinstance(value, dict) else value
        if not isinstance(content, bytes):
            raise ImageError(self.name(index), f"is no image file but {type(value).__name__}", "no image inside")
        if len(content) > most:
            what = f"has {len(content):,} bytes; at most {most:,} are read"
            raise ImageError(self.name(index), what, "too many bytes")
        return content


def _names_of(schema: Any, label: str) -> Sequence[str] | None:
    """The names of classes, which Hugging Face keeps in the notes of the file."""
    try:
        notes = json.loads((schema.metadata or {})[b"huggingface"])
        names = notes["info"]["features"][label]["names"]
    except (KeyError, TypeError, ValueError):
        return None
    return names if isinstance(names, list) and all(isinstance(name, str) for name in names) else None


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

    def look(self) -> Source:
        files = [self.path] if self.path.is_file() else sorted(self.path.rglob("*.parquet"))
        if not files:
            raise DataError(f"there is no parquet file at {self.path}: set data.path")
        source = _Parquet(files, self.shape, self.image, self.label)
        if not len(source):
            raise DataError(f"the parquet files at {self.path} have no rows")
        return source

    @classmethod
    def found_at(cls, path: Path) -> Self | None:
        here = path.suffix == ".parquet" if path.is_file() else any(path.glob("*.parquet"))
        return cls(path=path) if here else None
