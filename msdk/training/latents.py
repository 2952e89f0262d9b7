"""Latents that were encoded before (`msdk data encode`): their files, and the source that training reads them from.

They are kept as the moments of the autoencoder's Gaussians where it has such, so that each step can draw from these
anew, and for images and their mirror images where the recipe flips. They stand for the images of one data set, encoded
by one autoencoder: the digests of both are kept with them, and others are refused.
"""

import hashlib
import json
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import attrs
import numpy as np
import torch
from attrs.validators import deep_iterable, ge, min_len
from torch import Tensor, nn

from msdk.batch import Batch, Encoded
from msdk.datasets.base import Source
from msdk.denoiser.building import weights_file
from msdk.errors import DataError, PartError
from msdk.recipe import Recipe, to_data
from msdk.recipe.results import parsed
from msdk.recipe.structuring import FieldError

FILE = "latents.json"
"""Of a folder of latents: what they are; see `Notes`."""

MEAN, LOG_VARIANCE, MIRRORED, LABEL, HASH = "mean", "log_variance", "mirrored_", "label", "hash"
"""Tensors of each file, those of mirrored images behind their prefix."""

MOST_HEADER = 2**20
"""Bytes of the header of a file."""

MOST_FILES = 256
"""Files of a data set, all of which are open while it is read."""


@attrs.frozen(kw_only=True)
class Notes:
    """What latents are.

    Attributes:
        images: How many there are.
        per_file: Images of each file but the last.
        shape: Channels and axes of a latent.
        moments: Whether their log-variances are kept beside the means.
        mirrored: Whether those of the mirrored images are kept, too.
        labels: Whether classes are kept.
        precision: What the autoencoder computed in.
        autoencoder: Its settings, but for those that say what becomes of latents.
        autoencoder_sha256: Of the file of its weights.
        data: The data set as a recipe names it, but for its path.
        data_sha256: Its digest.
        protocol: What the images were made by.
        class_names: Of class 0, of class 1, ...; None without names.
        msdk: The version that made them.
    """

    images: int = attrs.field(validator=ge(1))
    per_file: int = attrs.field(validator=ge(1))
    shape: tuple[int, ...] = attrs.field(validator=[min_len(2), deep_iterable(ge(1))])
    moments: bool
    mirrored: bool
    labels: bool
    precision: str
    autoencoder: Any
    autoencoder_sha256: str
    data: Any
    data_sha256: str
    protocol: str = ""
    class_names: tuple[str, ...] | None = None
    msdk: str = ""

    def __attrs_post_init__(self) -> None:
        if self.images > MOST_FILES * self.per_file:
            raise FieldError(f"per_file = {self.per_file} makes more than {MOST_FILES} files of {self.images} images")

    def files(self) -> list[str]:
        """The files that hold them."""
        return [f"{number:05d}.safetensors" for number in range(-(-self.images // self.per_file))]

    def count(self, file: int) -> int:
        """Images of a file."""
        return min(self.per_file, self.images - file * self.per_file)

    def tensors(self) -> tuple[str, ...]:
        """Those of latents that each file has."""
        own = (MEAN, *((LOG_VARIANCE,) if self.moments else ()))
        return (*own, *((f"{MIRRORED}{name}" for name in own) if self.mirrored else ()))


def read_notes(path: Path) -> Notes:
    """What the latents in a folder are.

    Raises:
        DataError: There are none.
        RunError: The file that says so is damaged.
    """
    try:
        content = (path / FILE).read_bytes()
    except OSError as error:
        raise DataError(f"{path} holds no latents: it has no {FILE}. `msdk data encode` makes them") from error
    return parsed(content, path / FILE, Notes, "what `msdk data encode` writes beside latents")


def of_autoencoder(recipe: Recipe) -> tuple[dict[str, Any], str]:
    """Settings of a recipe's autoencoder that decide what it makes of images, and the SHA-256 of its weights.

    Raises:
        RunError: The weights are missing.
    """
    assert recipe.autoencoder is not None  # the caller looks
    with weights_file(recipe.autoencoder).open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    later = ("weights", "scale", "sampled")
    return {key: value for key, value in to_data(recipe.autoencoder).items() if key not in later}, digest


def of_data(recipe: Recipe) -> dict[str, Any]:
    """The data set of a recipe, wherever it lies, and whatever is held out."""
    return {key: value for key, value in to_data(recipe.data).items() if key not in ("path", "sha256", "held_out")}


def open_data(recipe: Recipe) -> Source:
    """What a recipe is trained on: its images, or what `training.latents` has in their place.

    Raises:
        DataError: They cannot be read; or the latents are of other data, or of another autoencoder, or lack what the
            recipe asks for.
    """
    path = recipe.training.latents
    if path is None:
        return recipe.data.open()
    notes = read_notes(path)
    told = list(_misfits(recipe, notes))
    if told:
        raise DataError(f"training.latents: those in {path} cannot be used, {'; '.join(told)}")
    return Latents(path, notes, sampled=draws_latents(recipe))


def _misfits(recipe: Recipe, notes: Notes) -> Sequence[str]:
    """Why latents are none of a recipe's, in words."""
    spec, digest = of_autoencoder(recipe)
    told: list[str] = []
    again = "encode the data anew (`msdk data encode`)"
    if spec != notes.autoencoder:
        told.append(f"they were encoded by an autoencoder with other settings: {again}")
    elif digest != notes.autoencoder_sha256:
        told.append(
            f"they were encoded by an autoencoder whose weights have the SHA-256 {notes.autoencoder_sha256[:16]}..., "
            f"and those of this recipe have {digest[:16]}...: {again}"
        )
    lies = getattr(recipe.data, "path", None)
    if isinstance(lies, Path) and not lies.exists():  # latents may go without their images
        if of_data(recipe) != notes.data:
            told.append(f"they are of the data {json.dumps(notes.data)}, and those of this recipe are not there")
    elif (known := recipe.data.open().digest) != notes.data_sha256:
        told.append(
            f"they are of data with the SHA-256 {notes.data_sha256[:16]}..., and those of this recipe have "
            f"{known[:16]}...: {again}"
        )
    if notes.shape != recipe.shape:
        told.append(f"they are {list(notes.shape)}, and those of this recipe are {list(recipe.shape)}")
    if recipe.training.flip and not notes.mirrored:
        told.append(f"training.flip needs those of mirrored images, too: {again}")
    if draws_latents(recipe) and not notes.moments:
        told.append(f"autoencoder.sampled needs their variances, which were not kept: {again}")
    if notes.precision not in ("fp32", recipe.training.precision):
        told.append(f"they were encoded in {notes.precision}, and training.precision is not that: {again}")
    return told


def refuse_unsuited(recipe: Recipe) -> None:
    """Raises `PartError` where a recipe names latents and has no use for them."""
    if recipe.training.latents is None:
        return
    if recipe.autoencoder is None:
        raise PartError("training.latents is for recipes with an [autoencoder]: leave it out, or name that")
    if recipe.training.augment:
        raise PartError(
            "training.augment changes images before they are encoded, and training.latents has them encoded already: "
            "leave one of the two out"
        )


class Latents(Source):
    """Latents of images, float32 [n, channels, *axes]: means, and log-variances in as many channels behind them.

    Index `len(self) + i` is the mirror image of image i.

    Args:
        path: The folder.
        notes: What is in it.
        sampled: Whether log-variances are wanted.

    Raises:
        DataError: A file is missing or damaged.
    """

    parallel = True

    def __init__(self, path: Path, notes: Notes, *, sampled: bool = False) -> None:
        self.path, self.notes = path, notes
        self.digest, self.protocol = notes.data_sha256, notes.protocol
        self.class_names = notes.class_names
        self._read = (MEAN, LOG_VARIANCE) if sampled else (MEAN,)
        self._files = [_File(path / name, notes, notes.count(number)) for number, name in enumerate(notes.files())]
        self.labels = [label for file in self._files for label in file.numbers(LABEL)] if notes.labels else None

    def __len__(self) -> int:
        return self.notes.images

    def hashes(self) -> list[int]:
        """Those of the images, so that the same ones are held out."""
        return [each for file in self._files for each in file.numbers(HASH)]

    def read(self, indices: Sequence[int]) -> Batch:
        found = np.empty((len(indices), len(self._read), *self.notes.shape), np.float32)
        for row, index in enumerate(indices):
            mirrored, image = divmod(index, len(self))
            number, place = divmod(image, self.notes.per_file)
            for part, name in enumerate(self._read):
                self._files[number].row(f"{MIRRORED}{name}" if mirrored else name, place, found[row, part])
        channels, *axes = self.notes.shape
        moments = torch.from_numpy(found).view(len(indices), len(self._read) * channels, *axes)
        images = [index % len(self) for index in indices]
        return Encoded(*self.labelled(moments, images))


class _File:
    """A safetensors file whose rows are read one by one, by calls, in any number of threads."""

    def __init__(self, path: Path, notes: Notes, count: int) -> None:
        self.path, self._count, self._row = path, count, 4 * math.prod(notes.shape)
        try:
            self._file = os.open(path, os.O_RDONLY | getattr(os, "O_CLOEXEC", 0))
        except OSError as error:
            raise DataError(f"{path} cannot be read: {error.strerror}") from error
        size = os.fstat(self._file).st_size
        length = int.from_bytes(os.pread(self._file, 8, 0), "little")
        if not 0 < length <= min(MOST_HEADER, size):
            raise self._damaged("its header has no length")
        try:
            header = json.loads(os.pread(self._file, length, 8))
            self._begins = {
                name: 8 + length + self._checked(header, name, size - 8 - length, ("F32", [count, *notes.shape]))
                for name in notes.tensors()
            }
            for name, dtype in ((HASH, "U64"), *(((LABEL, "I64"),) if notes.labels else ())):
                self._begins[name] = 8 + length + self._checked(header, name, size - 8 - length, (dtype, [count]))
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise self._damaged(str(error)) from error

    def __del__(self) -> None:
        if hasattr(self, "_file"):
            os.close(self._file)

    def _damaged(self, why: str) -> DataError:
        return DataError(f"{self.path} is damaged ({why}): `msdk data encode` with --force makes all anew")

    def _checked(self, header: Mapping[str, Any], name: str, size: int, wanted: tuple[str, list[int]]) -> int:
        """Where a tensor begins behind the header."""
        found = header[name]
        first, last = (int(each) for each in found["data_offsets"])
        length = math.prod(wanted[1]) * {"F32": 4, "I64": 8, "U64": 8}[wanted[0]]
        if (found["dtype"], found["shape"]) != wanted or not 0 <= first <= last <= size or last - first != length:
            raise ValueError(f"{name} is not what {FILE} says")
        return first

    def row(self, name: str, index: int, into: "np.ndarray[Any, np.dtype[np.float32]]") -> None:
        """Puts a row of a tensor where it is wanted."""
        found = os.preadv(self._file, [cast("Any", into.reshape(-1).view(np.uint8).data)], self._at(name, index))
        if found != self._row:
            raise self._damaged("it ends early")

    def _at(self, name: str, index: int) -> int:
        return self._begins[name] + index * self._row

    def numbers(self, name: str) -> list[int]:
        """The class of each image, or its hash."""
        content = os.pread(self._file, 8 * self._count, self._begins[name])
        return np.frombuffer(content, "<i8" if name == LABEL else "<u8").tolist()


def moments_of(first_stage: nn.Module, images: Tensor) -> Tensor:
    """Means of the latents of images in [-1, 1], and their log-variances behind them where an autoencoder has such."""
    network = cast("Any", first_stage)
    found: Tensor = torch.cat(network.posterior(images), dim=1) if has_moments(first_stage) else network.encode(images)
    return found


def has_moments(first_stage: nn.Module) -> bool:
    """Whether the latents of an autoencoder are Gaussian: its module says so by a method `posterior`."""
    return callable(getattr(first_stage, "posterior", None))


def draws_latents(recipe: Recipe) -> bool:
    """Whether each step draws its latents from their Gaussians."""
    return bool(getattr(recipe.autoencoder, "sampled", False))


def drawn(moments: Tensor, noise: Tensor | None) -> Tensor:
    """Latents without their scale: mean + exp(log-variance / 2) noise; the means where there is no noise.

    Args:
        moments: Means [batch, c, *axes], with log-variances behind them where there is noise.
        noise: Standard normal, of the shape of the means.
    """
    if noise is None:
        return moments
    mean, log_variance = moments.chunk(2, dim=1)
    return mean + (log_variance / 2).exp() * noise


def refuse_unsampled(recipe: Recipe, first_stage: nn.Module) -> None:
    """Raises `PartError` where latents are to be drawn from Gaussians that an autoencoder has not."""
    if draws_latents(recipe) and not has_moments(first_stage):
        name = to_data(recipe.autoencoder)["name"]
        raise PartError(
            f"autoencoder.sampled draws latents from Gaussians, which those of '{name}' are not: leave it out"
        )
