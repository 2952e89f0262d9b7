"""The images of a step: read in threads while the steps before are computed, and decoded once where they fit.

Which images a step reads follows from its number, so whatever reads ahead needs to know nothing else, at any step that
a run begins with. Threads do it: Pillow and zlib let others run while they decode, sources need not be sent to other
processes, and there is nothing to clean up where a process is killed.
"""

import contextlib
import hashlib
import json
import os
import shutil
import threading
import time
import weakref
import zlib
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import PIL
import torch

from msdk import cache
from msdk.batch import Batch
from msdk.datasets.base import FileSource, Source
from msdk.denoiser.memory import free_memory
from msdk.recipe import Training
from msdk.threads import cores

Pixels = np.ndarray[Any, np.dtype[np.uint8]]

MOST_WORKERS = 4
"""Threads where nobody says how many."""

UNUSED = 30 * 24 * 3600
"""Seconds after which decoded images that nobody opened are removed."""


class Reader:
    """The images of steps, by their numbers; those of the next steps are read meanwhile.

    Args:
        source: Of the images.
        indices: Which of them a step reads.
        options: Of the training.
        device: Where the images are to go; for a GPU they wait in memory that it reads by itself.

    Attributes:
        workers: Threads, each of which reads the images of one step.
        decoded: What keeps decoded images; None where nothing does.
        waited: Seconds that steps have waited for their images.
    """

    def __init__(
        self, source: Source, indices: Callable[[int], Sequence[int]], options: Training, device: torch.device
    ) -> None:
        self.source, self.indices, self.device = source, indices, device
        self.end, self.waited = options.iterations, 0.0
        own = min(cores(), MOST_WORKERS) if isinstance(source, FileSource) else 0
        self.workers = own if options.workers is None else options.workers
        images = options.iterations * options.batch_size
        self.decoded = decoded(source) if options.cache_images and images > len(source) else None
        self._one_at_a_time = contextlib.nullcontext() if source.parallel else threading.Lock()
        self._ahead: dict[int, Future[Batch]] = {}
        self._pool: ThreadPoolExecutor | None = None

    def __enter__(self) -> "Reader":
        """Reads ahead until the block ends."""
        if self.workers:
            self._pool = ThreadPoolExecutor(self.workers, "msdk-reading", self._begin)
        return self

    def __exit__(self, *_: object) -> None:
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)
        self._ahead, self._pool = {}, None

    def __call__(self, iteration: int) -> Batch:
        """The images of a step, with their conditions, on the CPU; what goes wrong is raised at its own step."""
        begun = time.perf_counter()
        if self._pool is None:
            found = self._read(iteration)
        else:
            for step in range(iteration, min(iteration + self.workers + 1, self.end)):
                if step not in self._ahead:
                    self._ahead[step] = self._pool.submit(self._read, step)
            own = self._ahead.pop(iteration, None)
            found = self._read(iteration) if own is None else own.result()
        self.waited += time.perf_counter() - begun
        return found

    def batch(self, indices: Sequence[int]) -> Batch:
        """Images by their numbers, with their conditions, on the CPU; any thread may ask."""
        with self._one_at_a_time:
            batch = self.source.batch(indices) if self.decoded is None else self.decoded.batch(indices)
        return batch._replace(images=batch.images.pin_memory()) if self.device.type == "cuda" else batch

    def forget(self) -> None:
        """Reads the next steps anew: they are to have other images."""
        self._ahead = {}

    def told(self) -> str:
        """How images were read, in words; nothing of those that lie in memory."""
        found: list[str] = []
        if self.workers:
            found.append(f"read ahead by {self.workers} thread{'s' if self.workers > 1 else ''}")
        if self.decoded is not None:
            found.append(f"kept decoded in {self.decoded.path}")
        return f"images were {' and '.join(found)}; steps waited {self.waited:.1f} s for them" if found else ""

    def _begin(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.set_device(
                self.device
            )  # a thread begins with the first GPU, where this process may have nothing

    def _read(self, iteration: int) -> Batch:
        return self.batch(self.indices(iteration))


class Decoded:
    """Decoded images in a file of the cache folder, which all processes and runs on the same data share.

    An image lies in its own place behind a checksum of its pixels and its number, so what is not there yet, half
    written or damaged is decoded again. The file is read and written by calls, not mapped into memory: a full disk is
    an error then that can be passed over, and not the end of the process. The system keeps what is read often in
    memory, once for all processes.

    Args:
        source: Of the images.
        path: The file.
    """

    def __init__(self, source: FileSource, path: Path) -> None:
        self.source, self.path = source, path
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0), 0o600)
        weakref.finalize(self, os.close, self._file)
        self._room = True

    def batch(self, indices: Sequence[int]) -> Batch:
        """What the source gives."""
        images = np.empty((len(indices), *self.source.shape), np.uint8)
        missing = [row for row, index in enumerate(indices) if not self._found(index, images[row])]
        if missing:
            fresh = self.source.batch([indices[row] for row in missing]).images.numpy()
            for row, pixels in zip(missing, fresh, strict=True):
                images[row] = pixels
                self._keep(indices[row], images[row])
        return self.source.labelled(torch.from_numpy(images), indices)

    def _found(self, index: int, image: Pixels) -> bool:
        """Puts the pixels of an image where they are wanted, and says whether they are its own."""
        checksum = bytearray(CHECKSUM)
        try:
            size = os.preadv(self._file, [checksum, image.reshape(-1).data], index * (CHECKSUM + image.nbytes))
        except OSError:
            return False
        return size == CHECKSUM + image.nbytes and bytes(checksum) == _checksum(index, image)

    def _keep(self, index: int, image: Pixels) -> None:
        try:
            if self._room:
                whole = _checksum(index, image) + image.tobytes()
                os.pwrite(self._file, whole, index * len(whole))
        except OSError:
            self._room = False


CHECKSUM = 4
"""Bytes in front of an image."""


def _checksum(index: int, image: Pixels) -> bytes:
    return zlib.crc32(image.reshape(-1).data, index + 1).to_bytes(CHECKSUM)


def decoded(source: Source) -> Decoded | None:
    """What keeps the decoded images of a source, in a file that is named by all that they depend on.

    None where they are not decoded from files, would take more than a quarter of the memory or of the disk that is
    free, or where nothing can be kept.
    """
    if not isinstance(source, FileSource) or not hasattr(os, "preadv"):
        return None
    if type(source).read is not FileSource.read or type(source).batch is not Source.batch:
        return None  # who knows what it adds
    size = len(source) * (int(np.prod(source.shape)) + CHECKSUM)
    key = [source.digest, source.shape, PIL.__version__, *map(cache.fingerprint, (FileSource, type(source)))]
    folder = cache.folder() / "decoded"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{hashlib.sha256(json.dumps(key).encode()).hexdigest()[:32]}.pixels"
        _sweep(folder, path)
        kept = path.stat().st_blocks * 512 if path.exists() else 0
        if size > free_memory() / 4 or size - kept > shutil.disk_usage(folder).free / 4:
            return None
        found = Decoded(source, path)
        os.utime(path)
    except OSError:
        return None
    return found


def _sweep(folder: Path, wanted: Path) -> None:
    """Removes what nobody has opened for a while; who reads it still, goes on with what was removed."""
    for path in folder.glob("*.pixels"):
        with contextlib.suppress(OSError):
            if path != wanted and time.time() - path.stat().st_mtime > UNUSED:
                path.unlink()
