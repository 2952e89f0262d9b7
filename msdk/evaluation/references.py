"""What real images look like to an extractor: made once, kept in the cache folder under data and weights."""

import contextlib
import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from msdk import cache
from msdk.arguments import as_annotated
from msdk.datasets.base import Dataset, FileSource, Source
from msdk.denoiser.building import pick_device
from msdk.distributed import Group, this_rank, together
from msdk.errors import DataError, PartError
from msdk.evaluation.extracting import Told, extract, kept, pieces
from msdk.evaluation.scores import ReferenceStamp
from msdk.extractors.base import Extracted, Extractor, Opened
from msdk.metrics.frechet import Moments, Sums
from msdk.recipe.structuring import to_data
from msdk.runs.files import remove_whole, save_tensors, sweep, written_whole
from msdk.runs.writer import one_writer
from msdk.training.holding_out import hold_out

FORMAT = 1
MOST = 50_000
"""Images whose features are kept, evenly spaced; means and covariances are of all."""

LOOKED_AT = 64
"""Files whose format is looked at."""


@attrs.frozen(eq=False)
class Reference:
    """Real images as an extractor sees them.

    Attributes:
        moments: Of all of them.
        stamp: What they are.
        file: Where it is kept.
        found: Whether it was there.
    """

    moments: Moments
    stamp: ReferenceStamp
    file: Path
    found: bool

    @property
    def extracted(self) -> Extracted:
        """Of at most `MOST` of them, in the order of the data; read each time, as they may be many."""
        with safe_open(self.file, "pt") as opened:
            names = set(opened.keys())
            logits = opened.get_tensor("logits") if "logits" in names else None
            return Extracted(opened.get_tensor("features"), logits)


@as_annotated
def reference(
    data: Dataset,
    extractor: Extractor,
    *,
    split: str = "all",
    device: str | None = None,
    progress: Told | None = None,
) -> Reference:
    """Looks at the images of a data set, or takes what was kept of an earlier look.

    Args:
        data: The data set.
        extractor: What looks at them.
        split: "all" images, the "trained" ones, or those "held-out" by `held_out` of the data.
        device: Where; CUDA where there is one when not given.
        progress: Told (images done, images in all) of this process.

    Raises:
        DataError: The data cannot be read, or have no such part.
        PartError: The extractor cannot look at them, or its weights are not there.
    """
    rank = this_rank()
    with together(rank) as group:
        opened = group.agreed(lambda: ready(extractor, data, rank.device(pick_device(device))))
        source = data.open()
        rows = rows_of(source, data, split)
        key = key_of(source, data, split, extractor, opened)
        file = place_of(key)
        with one_writer(file) if rank.first else contextlib.nullcontext():
            return looked_at_all(
                source, rows, stamp_of(source, data, split, rows), extractor, opened, file, group, progress
            )


def ready(extractor: Extractor, data: Dataset, device: str) -> Opened:
    """The extractor, open, after it has said whether it can look at such images."""
    extractor.check(data.shape)
    return extractor.open(device)


def rows_of(source: Source, data: Dataset, split: str) -> Sequence[int]:
    """The images of a part of the data.

    Raises:
        DataError: There is no such part.
    """
    if split not in ("all", "trained", "held-out"):
        raise DataError(f"the data have the parts all, trained and held-out, not '{split}'")
    if split == "all":
        return range(len(source))
    if not data.held_out:
        raise DataError(f"data.held_out is 0, so no images are held out of training, and there is no part '{split}'")
    found = hold_out(source, data.held_out)
    return found.trained if split == "trained" else sorted(found.held)


def key_of(source: Source, data: Dataset, split: str, extractor: Extractor, opened: Opened) -> Mapping[str, Any]:
    """All that features depend on."""
    settings = {key: value for key, value in to_data(extractor).items() if key != "weights"}
    return {
        "format": FORMAT,
        "data": source.digest,
        "shape": list(data.shape),
        "split": [split, data.held_out if split != "all" else 0.0],
        "extractor": settings,
        "weights": opened.digest,
        "most": MOST,
    }


def place_of(key: Mapping[str, Any]) -> Path:
    """Where in the cache folder a reference is kept."""
    digest = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()
    return cache.folder() / "references" / f"{digest[:32]}.safetensors"


def stamp_of(source: Source, data: Dataset, split: str, rows: Sequence[int]) -> ReferenceStamp:
    """What a reference is made of."""
    return ReferenceStamp(
        data=to_data(data),
        sha256=source.digest,
        split=split,
        held_out=data.held_out if split != "all" else 0.0,
        images=len(rows),
        shape=tuple(data.shape),
        protocol=source.protocol,
        jpeg=jpeg_share(source),
    )


def jpeg_share(source: Source) -> float | None:
    """The share of images that were JPEG: by the files of some, evenly spaced, and by what the data say of before."""
    if not isinstance(source, FileSource):
        return None
    some = np.unique(np.linspace(0, len(source) - 1, min(LOOKED_AT, len(source))).round().astype(int)).tolist()
    found = 0
    for index in some:
        with contextlib.suppress(DataError):
            found += source.content(index, 2**28)[:2] == b"\xff\xd8"
    return max(found / max(len(some), 1), source.jpeg / max(len(source), 1))


def looked_at_all(
    source: Source,
    rows: Sequence[int],
    stamp: ReferenceStamp,
    extractor: Extractor,
    opened: Opened,
    file: Path,
    group: Group,
    progress: Told | None,
    partial: Path | None = None,
) -> Reference:
    """The reference that a file keeps; made first where it is not there, by all processes, in files beside it.

    `partial` is where these lie; it has to be a folder that all processes see.
    """
    held = [read(file, stamp)] if group.rank.first else [None]
    if group.any(held[0] is not None):
        return held[0] or _made_elsewhere(file, stamp)
    parts, label = pieces(len(rows)), str(to_data(extractor)["name"])
    folder = partial or file.with_name(f"{file.stem}.partial")

    def begin() -> None:
        if group.rank.first:
            folder.mkdir(parents=True, exist_ok=True)
            for part in parts:
                sweep(folder / f"{part.start:08d}")

    def pixels(part: range) -> Tensor:
        return source.batch([rows[place] for place in part]).images

    group.agreed(begin)
    told = progress or (lambda done, total: None)
    extract(folder, "reference", parts, pixels, {label: opened}, group, told)
    if group.rank.first:
        sums, features, logits = Sums(opened.width), list[Tensor](), list[Tensor]()
        chosen = np.unique(np.linspace(0, len(rows) - 1, min(MOST, len(rows))).round().astype(int))
        for part, each in zip(parts, kept(folder, "reference", parts, label), strict=True):
            sums.add(each.features)
            own = torch.from_numpy(chosen[(chosen >= part.start) & (chosen < part.stop)] - part.start)
            features.append(each.features[own])
            if each.logits is not None:
                logits.append(each.logits[own])
        moments = sums.moments()
        write(file, moments, Extracted(torch.cat(features), torch.cat(logits) if logits else None))
        remove_whole(folder)
    group.wait()
    found = read(file, stamp) if group.rank.first else _made_elsewhere(file, stamp)
    if found is None:
        raise PartError(f"{file} cannot be read back: is the cache folder ($MSDK_CACHE) full?")
    return attrs.evolve(found, found=False)


def _made_elsewhere(file: Path, stamp: ReferenceStamp) -> Reference:
    """What processes hold that do not score: the first one does."""
    nothing = Moments(np.zeros(0), np.zeros((0, 0)), stamp.images)
    return Reference(nothing, stamp, file, found=True)


def write(file: Path, moments: Moments, extracted: Extracted) -> None:
    """Keeps a reference."""
    file.parent.mkdir(parents=True, exist_ok=True)
    tensors = {
        "mean": torch.from_numpy(moments.mean),
        "covariance": torch.from_numpy(moments.covariance),
        "features": extracted.features,
        **({} if extracted.logits is None else {"logits": extracted.logits}),
    }
    with written_whole(file) as temporary:
        save_tensors(tensors, temporary, {"count": str(moments.count)})


def read(file: Path, stamp: ReferenceStamp) -> Reference | None:
    """What a file keeps; None where it is not there or damaged."""
    try:
        with safe_open(file, "pt") as opened:
            found = {name: opened.get_tensor(name).numpy() for name in ("mean", "covariance")}
            opened.get_slice("features")  # KeyError where it is not there
            count = int(opened.metadata()["count"])
        return Reference(Moments(found["mean"], found["covariance"], count), stamp, file, found=True)
    except (OSError, SafetensorError, KeyError, ValueError, TypeError):
        return None
