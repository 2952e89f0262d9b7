"""Data sets of Hugging Face's `datasets`, from disk or from its cache."""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import attrs
from attrs.validators import ge, in_, min_len

from msdk.batch import Batch
from msdk.datasets.base import Dataset, Source
from msdk.encoders.base import Shape
from msdk.errors import DataError

if TYPE_CHECKING:
    from torch import Tensor


class _Saved(Source):
    def __init__(self, rows: Any, shape: Shape, image: str, label: str | None) -> None:
        for wanted in (image, *([label] if label else [])):
            if wanted not in rows.column_names:
                raise DataError(f"the data set has no column '{wanted}'. Columns: {', '.join(rows.column_names)}.")
        self._rows, self._shape, self._image = rows, shape, image
        self.digest = hashlib.sha256(str(rows._fingerprint).encode()).hexdigest()
        self.labels = None if label is None else [int(value) for value in rows[label]]
        self.class_names = None if label is None else getattr(rows.features[label], "names", None)
        self.unlabelled = "" if label else "data.label names the column of classes"

    def __len__(self) -> int:
        return len(self._rows)

    def read(self, indices: Sequence[int]) -> Batch:
        import numpy as np
        import torch

        channels, height, width = self._shape
        found: list[Tensor] = []
        for index in indices:
            image = self._rows[int(index)][self._image]
            if not hasattr(image, "convert"):
                raise DataError(f"row {index} of the column '{self._image}' is a {type(image).__name__}, no image")
            pixels = np.array(image.convert("L" if channels == 1 else "RGB"))
            if pixels.shape[:2] != (height, width):
                raise DataError(
                    f"row {index} of the column '{self._image}' has {pixels.shape[0]}x{pixels.shape[1]} pixels, but "
                    f"the recipe's data.size is {height}: resize the images or change the recipe"
                )
            found.append(torch.from_numpy(pixels).view(height, width, -1).permute(2, 0, 1))
        return self.labelled(torch.stack(found), indices)


@attrs.frozen(kw_only=True)
class HuggingFace(Dataset):
    """A data set that `datasets` can load: a folder of `save_to_disk`, or a name that is in its cache.

    Args:
        source: The folder, or the name on the hub. What is not in the cache is downloaded only with `download`.
        split: Which split.
        image: The column of images.
        label: The column of classes; none when not given.
        size: Side of every image in pixels.
        channels: 3 for colour, 1 for grey; images are converted.
        download: Whether `datasets` may go to the hub.
    """

    source: str = attrs.field(validator=min_len(1))
    split: str = "train"
    image: str = "image"
    label: str | None = None
    size: int = attrs.field(default=32, validator=ge(1))
    channels: int = attrs.field(default=3, validator=in_((1, 3)))
    download: bool = False

    @property
    def shape(self) -> Shape:
        return self.channels, self.size, self.size

    def open(self) -> Source:
        import datasets  # pyright: ignore[reportMissingTypeStubs]

        library = cast("Any", datasets)
        try:
            if Path(self.source).is_dir():
                rows: Any = library.load_from_disk(self.source)
            else:
                mode = "reuse_dataset_if_exists"
                offline = library.config.HF_DATASETS_OFFLINE
                library.config.HF_DATASETS_OFFLINE = offline or not self.download
                try:
                    rows = library.load_dataset(self.source, split=self.split, download_mode=mode)
                finally:
                    library.config.HF_DATASETS_OFFLINE = offline
        except Exception as error:  # of the hub, the cache and the file system
            hint = "" if self.download else " (download = true lets `datasets` go to the hub)"
            raise DataError(f"the data set '{self.source}' cannot be loaded{hint}: {error}") from error
        if isinstance(rows, library.DatasetDict):
            if self.split not in rows:
                raise DataError(f"'{self.source}' has no split '{self.split}'. Splits: {', '.join(rows)}.")
            rows = rows[self.split]
        return _Saved(rows, self.shape, self.image, self.label)
