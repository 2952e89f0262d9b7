"""Images in many zip files, read as one."""

import bisect
import hashlib
import itertools
from collections.abc import Sequence
from typing import TYPE_CHECKING

import attrs

from msdk.batch import Batch
from msdk.datasets.base import ImageFiles, Source
from msdk.datasets.zip import Zip
from msdk.errors import DataError

if TYPE_CHECKING:
    pass


class _Shards(Source):
    """Sources one after another."""

    def __init__(self, sources: Sequence[Source]) -> None:
        self._sources = sources
        self._ends = list(itertools.accumulate(map(len, sources)))
        self.digest = hashlib.sha256("".join(source.digest for source in sources).encode()).hexdigest()
        labels = [source.labels for source in sources]
        known = [each for each in labels if each is not None]
        self.labels = list(itertools.chain(*known)) if len(known) == len(labels) else None

    def __len__(self) -> int:
        return self._ends[-1]

    def read(self, indices: Sequence[int]) -> Batch:
        import torch

        # Each shard is read once, whatever the order; its images then go to their places.
        places: dict[int, list[tuple[int, int]]] = {}
        for place, index in enumerate(indices):
            number = bisect.bisect_right(self._ends, index)
            first = self._ends[number - 1] if number else 0
            places.setdefault(number, []).append((place, index - first))
        parts = [self._sources[number].read([within for _, within in found]).images for number, found in places.items()]
        order = [place for found in places.values() for place, _ in found]
        images = torch.cat(parts)
        result = torch.empty_like(images)
        result[order] = images
        return self.labelled(result, indices)


@attrs.frozen(kw_only=True)
class Shards(ImageFiles):
    """All zip files of a folder as one data set, in the order of their names; each is as `zip` reads it.

    Classes are known where every shard has its `dataset.json`.

    Args:
        path: The folder.
        size: Side of every image in pixels.
        channels: 3 for colour, 1 for grey; images are converted.
    """

    def open(self) -> Source:
        if not self.path.is_dir():
            raise DataError(f"there is no folder {self.path}: set data.path")
        files = sorted(file for file in self.path.iterdir() if file.suffix.lower() == ".zip")
        if not files:
            raise DataError(f"the folder {self.path} holds no zip files, which shards are")
        return _Shards([Zip(path=file, size=self.size, channels=self.channels).open() for file in files])
