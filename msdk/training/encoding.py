"""`msdk data encode`: the latents of a recipe's data, kept for training, in files that a later call goes on with."""

import contextlib
import json
import shutil
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import torch
from torch import Tensor, nn

from msdk import __version__
from msdk.arguments import as_annotated
from msdk.batch import Batch
from msdk.datasets.base import FileSource, Source
from msdk.denoiser.building import build_autoencoder, pick_device, weights_file
from msdk.denoiser.memory import enough_memory
from msdk.distributed import Group, this_rank, together
from msdk.errors import PartError, RunError
from msdk.recipe import Recipe, recipe_of
from msdk.recipe.results import to_json
from msdk.runs.files import remove_whole, save_tensors, write_json, written_whole
from msdk.runs.writer import one_writer
from msdk.threads import cores
from msdk.training.drawing import flipped, layout, to_range
from msdk.training.holding_out import hashes_of
from msdk.training.latents import (
    FILE,
    HASH,
    LABEL,
    LOG_VARIANCE,
    MEAN,
    MIRRORED,
    MOST_FILES,
    Notes,
    has_moments,
    moments_of,
    of_autoencoder,
    of_data,
)
from msdk.training.step import autocast

FILE_SIZE = 2**26
"""Bytes of means in a file, about; more where there would be too many files."""

PLAN = "plan.json"
"""Beside the files of a call that is not done: what they are of."""


@attrs.frozen(kw_only=True)
class Encoded:
    """What was made.

    Attributes:
        path: The folder, for `training.latents`.
        images: How many it has the latents of.
        shape: Channels and axes of a latent.
        moments: Whether variances are kept beside the means.
        mirrored: Whether mirrored images are there, too.
        data_sha256: Digest of the data.
        autoencoder_sha256: Digest of the autoencoder's weights.
        kept: Images that an earlier, interrupted call had encoded.
    """

    path: Path
    images: int
    shape: tuple[int, ...]
    moments: bool
    mirrored: bool
    data_sha256: str
    autoencoder_sha256: str
    kept: int

    def as_json(self) -> dict[str, Any]:
        """The object of `msdk data encode --json`."""
        return to_json(self)


@as_annotated
def encode(
    recipe: Recipe | str | Path,
    out: str | Path,
    *,
    device: str | None = None,
    batch_size: int = 32,
    workers: int | None = None,
    force: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> Encoded:
    """Encodes the data of a recipe with its autoencoder, for `training.latents`.

    What was made until a call was stopped lies beside `out`, and the next call goes on from there. Processes of
    torchrun share the work.

    Args:
        recipe: A recipe with an autoencoder, or the file of one, or a run folder. Where it flips images, mirrored ones
            are encoded, too.
        out: The new folder.
        device: Where to encode; CUDA where there is one when not given.
        batch_size: Images at a time.
        workers: Threads that read images ahead; up to 4 for data in files when not given.
        force: Replace `out`, if it holds latents.
        progress: Told (images done, images in all) of this process.

    Raises:
        RunError: `out` exists, is being written by another process, or cannot be written; or there are no weights.
        PartError: The recipe has no autoencoder.
        DataError: The data cannot be read.
    """
    with together(this_rank()) as group:
        return encode_here(
            recipe_of(recipe),
            Path(out),
            device=device,
            batch_size=batch_size,
            workers=workers,
            force=force,
            progress=progress,
            group=group,
        )


def encode_here(
    settled: Recipe,
    target: Path,
    *,
    device: str | None,
    batch_size: int,
    workers: int | None,
    force: bool,
    progress: Callable[[int, int], None] | None,
    group: Group,
) -> Encoded:
    """`encode`, for the processes of a group."""
    rank = group.rank
    with contextlib.ExitStack() as opened:
        place = rank.device(pick_device(device))

        def begin() -> tuple[Source, nn.Module, Notes, Path]:
            if settled.autoencoder is None:
                raise PartError("the recipe has no [autoencoder], so its networks see the images themselves")
            if batch_size < 1:
                raise PartError(f"batch_size must be 1 or more, got {batch_size}")
            weights_file(settled.autoencoder)  # told before anything slow
            source = settled.data.open()
            network = build_autoencoder(settled.autoencoder, settled.data.shape, place).eval().requires_grad_(False)
            notes = _notes(settled, source, network)
            parts = target.with_name(f".{target.name}.parts")
            if rank.first:
                _refuse_existing(target, force=force)
                opened.enter_context(one_writer(target))
                _planned(parts, notes)
            return source, network, notes, parts

        source, network, notes, parts = group.agreed(begin)
        kept = sum(notes.count(number) for number, name in enumerate(notes.files()) if (parts / name).is_file())
        group.agreed(lambda: None)  # all have counted before the first writes
        maker = _Maker(settled, source, network, notes, batch_size, torch.device(place))
        fix = "lower --batch"
        with enough_memory("encoding images does", fix):
            group.agreed(lambda: maker.files(parts, group, workers, progress or (lambda done, total: None)))
        if rank.first:
            _finish(parts, target, notes)
        group.agreed(lambda: None)
    return Encoded(
        path=target,
        images=notes.images,
        shape=notes.shape,
        moments=notes.moments,
        mirrored=notes.mirrored,
        data_sha256=notes.data_sha256,
        autoencoder_sha256=notes.autoencoder_sha256,
        kept=kept,
    )


def _notes(recipe: Recipe, source: Source, network: nn.Module) -> Notes:
    assert recipe.autoencoder is not None
    spec, digest = of_autoencoder(recipe)
    shape = recipe.autoencoder.latent_shape(recipe.data.shape)
    names = source.class_names
    return Notes(
        images=len(source),
        per_file=max(FILE_SIZE // (4 * torch.Size(shape).numel()), -(-len(source) // MOST_FILES)),
        shape=shape,
        moments=has_moments(network),
        mirrored=recipe.training.flip,
        labels=source.labels is not None,
        precision=recipe.training.precision,
        autoencoder=spec,
        autoencoder_sha256=digest,
        data=of_data(recipe),
        data_sha256=source.digest,
        protocol=source.protocol,
        class_names=None if names is None else tuple(names),
        msdk=__version__,
    )


def _refuse_existing(target: Path, *, force: bool) -> None:
    if not target.exists():
        return
    if not force:
        raise RunError(f"{target} exists: give another --out, or --force to replace it")
    if not (target / FILE).is_file():
        raise RunError(f"{target} holds no latents, so it is not replaced: give another --out")


def _planned(parts: Path, notes: Notes) -> None:
    """Makes the folder of files, or keeps that of an earlier call for the same; others are thrown away."""
    content = json.dumps(to_json(notes))
    with contextlib.suppress(OSError):
        if (parts / PLAN).read_text(encoding="utf-8") == content:
            for left in parts.glob(".*.tmp"):
                left.unlink(missing_ok=True)
            return
    shutil.rmtree(parts, ignore_errors=True)
    parts.mkdir(parents=True)
    with written_whole(parts / PLAN) as temporary:
        temporary.write_text(content, encoding="utf-8")


def _finish(parts: Path, target: Path, notes: Notes) -> None:
    """Gives the files the name under which they are latents."""
    write_json(parts / FILE, to_json(notes))
    if target.exists():
        remove_whole(target)
    parts.rename(target)  # a process that is killed before this goes on from the plan
    (target / PLAN).unlink()


class _Maker:
    """Encodes the images of one file after another."""

    def __init__(
        self, recipe: Recipe, source: Source, network: nn.Module, notes: Notes, batch: int, device: torch.device
    ) -> None:
        self.recipe, self.source, self.network, self.notes = recipe, source, network, notes
        self.batch, self.device = batch, device
        self.hashes = hashes_of(source)

    def files(self, parts: Path, group: Group, workers: int | None, progress: Callable[[int, int], None]) -> None:
        """Makes those of this process that are not there."""
        own = list(enumerate(self.notes.files()))[group.rank.index :: group.rank.count]
        total, done = sum(self.notes.count(number) for number, _ in own), 0
        threads = (min(cores(), 4) if isinstance(self.source, FileSource) else 1) if workers is None else workers
        with ThreadPoolExecutor(max(threads, 1)) as pool:
            for number, name in own:
                count = self.notes.count(number)
                if not (parts / name).is_file():
                    first = number * self.notes.per_file
                    with written_whole(parts / name) as temporary:
                        tensors = self._encoded(range(first, first + count), pool, threads, done, total, progress)
                        save_tensors(tensors, temporary)
                done += count
                progress(done, total)

    def _encoded(
        self,
        images: Sequence[int],
        pool: ThreadPoolExecutor,
        ahead: int,
        done: int,
        total: int,
        progress: Callable[[int, int], None],
    ) -> dict[str, Tensor]:
        found: dict[str, list[Tensor]] = {name: [] for name in self.notes.tensors()}
        found[HASH] = [torch.from_numpy(np.array([self.hashes[index] for index in images], np.uint64))]
        for batch in self._read(images, pool, ahead):
            pixels = batch.images.to(self.device, memory_format=layout(batch.images.ndim), non_blocking=True)
            for prefix in ("", MIRRORED) if self.notes.mirrored else ("",):
                turned = flipped(pixels, torch.ones(len(pixels), dtype=torch.bool, device=self.device))
                moments = (
                    self._moments(to_range(turned if prefix else pixels)).cpu().chunk(2 if self.notes.moments else 1, 1)
                )
                for name, value in zip((MEAN, LOG_VARIANCE), moments, strict=False):
                    found[f"{prefix}{name}"].append(value)
            if self.notes.labels and batch.condition.label is not None:
                found.setdefault(LABEL, []).append(batch.condition.label)
            done += len(pixels)
            progress(done, total)
        return {name: torch.cat(values).contiguous() for name, values in found.items()}

    @torch.no_grad()
    def _moments(self, images: Tensor) -> Tensor:
        with autocast(self.recipe, self.device):
            found = moments_of(self.network, images)
        return found.to(images.dtype)

    def _read(self, images: Sequence[int], pool: ThreadPoolExecutor, ahead: int) -> Iterator[Batch]:
        """Batches in order, the next ones read meanwhile."""
        waiting: deque[Future[Batch]] = deque()
        for first in range(0, len(images), self.batch):
            waiting.append(pool.submit(self.source.batch, images[first : first + self.batch]))
            if len(waiting) > (ahead if self.source.parallel else 1):
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
