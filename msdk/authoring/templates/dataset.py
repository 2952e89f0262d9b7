"""A data set: a spec that knows the shape of its images, and a source that reads them."""

import hashlib
from collections.abc import Sequence
from typing import TYPE_CHECKING

import attrs
from attrs.validators import ge

from msdk.batch import Batch
from msdk.datasets.base import Dataset, Source
from msdk.encoders.base import Shape

if TYPE_CHECKING:
    pass


class _Squares(Source):
    def __init__(self, count: int, size: int) -> None:
        self._count, self._size = count, size
        # The digest changes whenever the data do; for files, hash their contents.
        self.digest = hashlib.sha256(f"squares {count} {size}".encode()).hexdigest()
        self.labels = [index % 3 for index in range(count)]  # one class per image, or None

    def __len__(self) -> int:
        return self._count

    def read(self, indices: Sequence[int]) -> Batch:
        import torch

        images = torch.zeros(len(indices), 3, self._size, self._size, dtype=torch.uint8)
        for image, index in zip(images, indices, strict=True):
            side = 1 + index % (self._size - 1)
            image[index % 3, :side, :side] = 255
        return self.labelled(images, indices)


@attrs.frozen(kw_only=True)
class MyDataset(Dataset):
    """Squares of three colours, which are the classes.

    Args:
        count: Number of images.
        size: Side of an image in pixels.
    """

    count: int = attrs.field(default=300, validator=ge(1))
    size: int = attrs.field(default=32, validator=ge(2))

    @property
    def shape(self) -> Shape:
        return 3, self.size, self.size

    def open(self) -> Source:
        return _Squares(self.count, self.size)
