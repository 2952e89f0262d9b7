"""From images to features, piece by piece: shared by processes, kept as they come, the same in whatever pieces run."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor

from msdk.distributed import Group
from msdk.errors import PartError, RunError
from msdk.extractors.base import Extracted, Opened
from msdk.runs.files import save_tensors, written_whole

PIECE = 256
"""Images of a piece, which one process makes and one file keeps, so no feature depends on the number of processes."""

AT_A_TIME = 64
"""Images that an extractor is given at a time."""

Told = Callable[[int, int], None]
"""Told (images done, images in all)."""


def pieces(count: int) -> list[range]:
    """Images by their places, in pieces."""
    return [range(start, min(start + PIECE, count)) for start in range(0, count, PIECE)]


def extract(
    folder: Path,
    name: str,
    parts: Sequence[range],
    pixels: Callable[[range], Tensor],
    extractors: Mapping[str, Opened],
    group: Group,
    told: Told,
) -> None:
    """Makes the features of all pieces that are not there yet, in files of a folder that all processes see.

    Args:
        folder: Where.
        name: How their files begin.
        parts: Places of images.
        pixels: The images of a piece, uint8 [images, channels, height, width].
        extractors: By the names that their tensors get.
        group: The processes that share the work.
        told: Of this process.

    Raises:
        PartError: Features are not finite.
    """
    missing = [part for part in parts if not _file(folder, name, part).is_file()]
    group.wait()  # before anybody writes, so that all deal out the same pieces
    own = missing[group.rank.index :: group.rank.count]
    total, done = sum(map(len, own)), 0
    for part in own:
        images = pixels(part)
        found: dict[str, Tensor] = {}
        for label, opened in extractors.items():
            features = looked_at(opened, images)
            _refuse_not_finite(features, label, part)
            found[f"{label}/features"] = features.features
            if features.logits is not None:
                found[f"{label}/logits"] = features.logits
        with written_whole(_file(folder, name, part)) as temporary:
            save_tensors(found, temporary)
        done += len(part)
        told(done, total)
    group.wait()


def looked_at(opened: Opened, images: Tensor) -> Extracted:
    """Features of any number of images, so many at a time."""
    found = [opened(each) for each in images.split(AT_A_TIME)]
    logits = [each.logits for each in found if each.logits is not None]
    return Extracted(torch.cat([each.features for each in found]), torch.cat(logits) if logits else None)


def kept(folder: Path, name: str, parts: Sequence[range], label: str) -> Iterator[Extracted]:
    """What an extractor made of each piece, in order.

    Raises:
        RunError: A file is damaged.
    """
    for part in parts:
        file = _file(folder, name, part)
        try:
            found = load_file(file)
            yield Extracted(found[f"{label}/features"], found.get(f"{label}/logits"))
        except Exception as error:  # safetensors raises its own, of no type that says more
            raise RunError(f"{file} is damaged: remove it, and it is made again") from error


def joined(extracted: Iterator[Extracted], count: int) -> Extracted:
    """Pieces of so many images one behind the other, never twice in memory."""
    whole: dict[str, Tensor] = {}
    at = 0
    for each in extracted:
        for name, piece in (("features", each.features), ("logits", each.logits)):
            if piece is not None:
                whole.setdefault(name, piece.new_empty(count, piece.shape[1]))[at : at + len(piece)] = piece
        at += len(each)
    return Extracted(whole["features"], whole.get("logits"))


def _file(folder: Path, name: str, part: range) -> Path:
    return folder / f"{name}-{part.start:08d}-{part.stop:08d}.safetensors"


def _refuse_not_finite(found: Extracted, label: str, part: range) -> None:
    fine = found.features.isfinite().all(1)
    if not fine.all():
        where = part.start + int((~fine).nonzero()[0])
        raise PartError(
            f"the extractor '{label}' gives features that are not finite for image {where}: its weights are damaged, "
            "or not those of its network"
        )
