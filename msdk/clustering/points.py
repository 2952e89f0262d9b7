"""A data set as points in blocks: images as they are, or their latents."""

import math
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import torch
from torch import Tensor

from msdk.clusterings.base import Points
from msdk.datasets.base import Source
from msdk.encoders.base import Shape
from msdk.errors import DataError

BLOCK, MOST = 2**24, 4096
"""Numbers in a block, and points: 64 MB in float32, while a block is long enough for a product at full speed."""

CACHE = 512 * 2**20
"""Bytes of blocks that stay in memory once they are read; CIFAR-10 takes 154 MB."""

ENCODED = 16
"""Images encoded at a time."""


class DataPoints(Points):
    """The images of a source, or the latents that an autoencoder makes of them.

    The next block is read while the last one is worked on. Small data sets are read once; of larger ones, what does not
    fit into the cache is read again each time.

    Args:
        source: Images, uint8.
        shape: Channels and axes of a point.
        encode: Makes latents on the CPU of images in [-1, 1]; None for pixels.
    """

    def __init__(self, source: Source, shape: Shape, encode: Callable[[Tensor], Tensor] | None = None) -> None:
        self._source, self._encode = source, encode
        self.count, self.size, self.pixels = len(source), math.prod(shape), encode is None
        self._length = max(min(BLOCK // self.size, MOST), 1)
        self._kept: dict[int, Tensor] = {}
        self._bytes = 0

    @property
    def block_count(self) -> int:
        return -(-self.count // self._length)

    def take(self, indices: Sequence[int]) -> Tensor:
        taken = torch.empty(len(indices), self.size)
        missing: list[int] = []
        for place, index in enumerate(indices):
            number, within = divmod(index, self._length)
            if number in self._kept:
                taken[place] = self._kept[number][within]
            else:
                missing.append(place)
        if missing:
            taken[missing] = self._read([indices[place] for place in missing]).float()
        return taken

    def blocks(self, first: int = 0, step: int = 1) -> Iterator[Tensor]:
        numbers = range(first, self.block_count, step)
        with ThreadPoolExecutor(1) as reader:
            ahead = [reader.submit(self._block, number) for number in numbers[:1]]
            for number in numbers:
                block = ahead.pop().result()
                if number + step < self.block_count:
                    ahead.append(reader.submit(self._block, number + step))
                yield block.float()

    def _block(self, number: int) -> Tensor:
        if number in self._kept:
            return self._kept[number]
        start = number * self._length
        block = self._read(range(start, min(start + self._length, self.count)))
        if self._bytes + block.nbytes <= CACHE:
            self._kept[number], self._bytes = block, self._bytes + block.nbytes
        return block

    def _read(self, indices: Sequence[int]) -> Tensor:
        """Pixels as uint8, latents as float32, [len(indices), d]."""
        images = self._source.batch(indices).images
        if images.dtype != torch.uint8:
            raise DataError(f"images are to be uint8, 0 .. 255, but this data set gives {images.dtype}")
        if self._encode is None:
            return images.flatten(1)
        parts = [self._encode(part.float() / 127.5 - 1) for part in images.split(ENCODED)]
        return torch.cat(parts).flatten(1)
