"""Which images never train: the share of them whose content has the smallest hashes, in whatever order they lie.

So a run on the same images has the same ones, also where these were zipped anew, shuffled, or more were added; copies
of an image are on one side; and what a smaller share holds out, a larger one does as well.
"""

import hashlib
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

from msdk import cache
from msdk.datasets.base import FileSource, Source, most_bytes
from msdk.errors import DataError
from msdk.threads import cores
from msdk.training.latents import Latents

BITS = 64
"""Of the hash of an image."""

AT_A_TIME = 256
"""Images that a thread reads before it asks for more."""


class Split(NamedTuple):
    """The images of a data set, by their numbers.

    Attributes:
        trained: Those that train, in the order of the data.
        held: Those that do not, in the order of their hashes.
        hashes: Of these, whole numbers.
    """

    trained: Sequence[int]
    held: Sequence[int]
    hashes: Sequence[int]


def hold_out(source: Source, share: float) -> Split:
    """The images of a source that train, and those that do not.

    Raises:
        DataError: An image cannot be read, or all of them or none would be held out.
    """
    count = len(source)
    if not share:
        return Split(range(count), (), ())
    hashes = hashes_of(source)
    most = int(share * 2**BITS)
    trained = [index for index, each in enumerate(hashes) if each >= most]
    held = sorted((each, index) for index, each in enumerate(hashes) if each < most)
    if not trained or not held:
        which, fix = ("no image", "raise it") if trained else ("every image", "lower it")
        raise DataError(f"data.held_out is {share:g}, which holds out {which} of {count:,}: {fix}, or take more images")
    return Split(trained, [index for _, index in held], [each for each, _ in held])


def hashes_of(source: Source) -> list[int]:
    """The hash of every image: of its file as it is, or of its pixels where it has none; 64 bits of BLAKE2b.

    All images are read once; what was found is kept in the cache folder under the digest of the data. Latents have
    those of the images that they were.
    """
    if isinstance(source, Latents):
        return source.hashes()
    key = {"hashes": source.digest, "images": len(source), "bits": BITS}
    size = BITS // 4
    known = cache.recall(key, str)
    if known is None or len(known) != size * len(source):
        known = "".join(_hashed(source))
        cache.keep(key, known)
    return [int(known[start : start + size], 16) for start in range(0, len(known), size)]


def _hashed(source: Source) -> Iterator[str]:
    """Hexadecimal digits, in the order of the images."""
    starts = range(0, len(source), AT_A_TIME)

    def some(start: int) -> str:
        indices = range(start, min(start + AT_A_TIME, len(source)))
        return "".join(hashlib.blake2b(each, digest_size=BITS // 8).hexdigest() for each in _contents(source, indices))

    if not source.parallel:
        yield from map(some, starts)
        return
    with ThreadPoolExecutor(cores(), "msdk-hashing") as pool:
        yield from pool.map(some, starts)


def _contents(source: Source, indices: Sequence[int]) -> Iterator[bytes]:
    if isinstance(source, FileSource):
        most = most_bytes(source.shape)
        yield from (source.content(index, most) for index in indices)
    else:
        yield from (image.numpy().tobytes() for image in source.batch(indices).images)
