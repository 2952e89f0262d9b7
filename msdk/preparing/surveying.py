"""`msdk data info`: what a data set is, image by image, as training would read it. Imports no torch for files."""

import contextlib
import hashlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import attrs

from msdk import datasets
from msdk.datasets.base import LARGEST, Dataset, FileSource, ImageError, Source, most_bytes, picture
from msdk.errors import DataError, PluginError
from msdk.recipe.results import to_json
from msdk.recipe.structuring import to_data

AT_ONCE = 64
"""Images that a source of another kind than files is asked for."""

Progress = Callable[[int, int], None]
"""Told (images done, images in all)."""


@attrs.frozen
class Kind:
    """Images or files of one kind.

    Attributes:
        what: The kind.
        count: How many there are.
        example: One of them; of what cannot be used, the whole message.
    """

    what: str
    count: int
    example: str


@attrs.frozen
class Size:
    """Images of one size in pixels, or other axes."""

    axes: tuple[int, ...]
    count: int
    example: str


@attrs.frozen
class ClassSize:
    """A class: its number, its name where the data have names, and how many images are of it."""

    label: int
    name: str | None
    count: int


@attrs.frozen
class Duplicates:
    """Images with the pixels of an earlier one.

    Attributes:
        count: How many there are.
        of_two_classes: Those of them whose class is another one than the earlier one's.
        example: One of them, and the earlier one.
    """

    count: int
    of_two_classes: int
    example: tuple[str, str] | None


@attrs.frozen
class Survey:
    """What was found in a data set.

    Attributes:
        data: The data set as a recipe names it; of one that was found at a path, with the size and channels that fit
            most of its images.
        sha256: Digest of the data, as lock.json has it; None where they cannot be read.
        images: How many images there are.
        usable: How many of them a recipe with `data` can train on.
        passed_over: What is no image of the data set, by reason.
        refused: Images that cannot be used, by reason.
        problems: Why a recipe with these data is refused, sentences.
        classes: By number, also those without images; empty where there are no classes.
        unlabelled: Why there are none, where the data say more.
        sizes: Of the images that can be decoded, the most frequent first.
        formats: Of their files, likewise; "JPEG" among them. Empty where images are in no files.
        modes: How those keep their pixels, likewise: "RGB", "L" (grey), "P" (a palette), "I;16", ...
        lowest: The lowest level of any channel, 0 .. 255; None where no image can be decoded.
        highest: The highest one.
        duplicates: Images that are there twice, by their pixels.
    """

    data: Mapping[str, Any]
    sha256: str | None
    images: int
    usable: int
    passed_over: tuple[Kind, ...]
    refused: tuple[Kind, ...]
    problems: tuple[str, ...]
    classes: tuple[ClassSize, ...]
    unlabelled: str
    sizes: tuple[Size, ...]
    formats: tuple[Kind, ...]
    modes: tuple[Kind, ...]
    lowest: int | None
    highest: int | None
    duplicates: Duplicates

    def as_json(self) -> dict[str, Any]:
        """The object of `msdk data info --json` (docs/contracts.md)."""
        return to_json(self)


def dataset_at(path: Path) -> Dataset:
    """The data set that lies at a path, of the kind that recognises it.

    Raises:
        DataError: None does.
    """
    # Any folder is one for `folder`, so that is asked last.
    for name in sorted(datasets.names(), key=lambda each: each == "folder"):
        with contextlib.suppress(PluginError):
            found = datasets.get(name).found_at(path)
            if found is not None:
                return found
    what = "is no folder, .zip or other data set that is known" if path.exists() else "does not exist"
    raise DataError(f"{path} {what}: give a folder of images, a .zip of them, a recipe, or a run folder")


def survey(
    dataset: Dataset,
    *,
    fitted: bool = False,
    check: Callable[[Source], object] | None = None,
    progress: Progress | None = None,
) -> Survey:
    """Looks at every image of a data set, with the decisions of its own reader.

    Args:
        dataset: Of any kind.
        fitted: Whether its size and channels are to become those of most images; as `dataset_at` gives it, it does not
            know them.
        check: Raises a `DataError` where whoever uses the data refuses them, which becomes one of the problems.
        progress: Told now and then how far this is.

    Raises:
        DataError: There is nothing to look at.
    """
    source = dataset.look()
    seen = _Seen(source)
    total = len(source)
    look = _files(source, None if fitted else dataset.shape) if isinstance(source, FileSource) else _others(source)
    for index, (found, error) in enumerate(look):
        seen.add(index, found, error)
        if progress is not None and (index % 100 == 99 or index + 1 == total):
            progress(index + 1, total)
    found = seen.survey(dataset, fitted=fitted)
    if check is not None:
        try:
            check(source)
        except DataError as error:
            return attrs.evolve(found, problems=(*found.problems, str(error)))
    return found


@attrs.frozen
class _Look:
    """A decoded image: axes without channels, what its file says, lowest and highest level, digest of the pixels."""

    axes: tuple[int, ...]
    coloured: bool
    format: str
    mode: str
    lowest: int
    highest: int
    digest: bytes


Look = tuple[_Look, None] | tuple[None, DataError]


def _files(source: FileSource, shape: tuple[int, ...] | None) -> Iterator[Look]:
    """Image files, of any size where no shape is given."""
    size = None if shape is None else (shape[1], shape[2])
    most = LARGEST if shape is None else most_bytes(shape)
    for index in range(len(source)):
        name = source.name(index)
        try:
            pixels, kind, mode = picture(source.content(index, most), name, size)
        except DataError as error:
            yield None, error
            continue
        digest = hashlib.blake2b(pixels.tobytes(), digest_size=16).digest()
        yield _Look(pixels.shape[:2], pixels.ndim > 2, kind, mode, int(pixels.min()), int(pixels.max()), digest), None


def _others(source: Source) -> Iterator[Look]:
    """Images of a source that says nothing of files, in pieces; one by one where a piece cannot be read."""
    for start in range(0, len(source), AT_ONCE):
        piece = range(start, min(start + AT_ONCE, len(source)))
        try:
            images = list(source.batch(piece).images.numpy())
        except DataError:
            images = [None] * len(piece)
        for index, image in zip(piece, images, strict=True):
            try:
                pixels = source.batch([index]).images.numpy()[0] if image is None else image
            except DataError as error:
                yield None, error
                continue
            digest = hashlib.blake2b(pixels.tobytes(), digest_size=16).digest()
            yield _Look(pixels.shape[1:], len(pixels) > 1, "", "", int(pixels.min()), int(pixels.max()), digest), None


class _Tally(dict[Any, list[Any]]):
    """What -> [how often, the first example]."""

    def add(self, what: object, example: str, count: int = 1) -> None:
        self.setdefault(what, [0, example])[0] += count

    def kinds(self) -> tuple[Kind, ...]:
        """The most frequent first."""
        return tuple(Kind(what, count, example) for what, (count, example) in self.ranked())

    def ranked(self) -> list[tuple[Any, list[Any]]]:
        return sorted(self.items(), key=lambda item: -item[1][0])


class _Seen:
    """Sums over the images looked at so far."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self.sizes, self.formats, self.modes, self.refused = _Tally(), _Tally(), _Tally(), _Tally()
        self.coloured = False
        self.lowest: int | None = None
        self.highest: int | None = None
        self.first: dict[bytes, int] = {}
        self.twice: list[tuple[int, int]] = []

    def name(self, index: int) -> str:
        return self.source.name(index) if isinstance(self.source, FileSource) else f"image {index}"

    def add(self, index: int, found: _Look | None, error: DataError | None) -> None:
        if found is None:
            self.refused.add(error.reason if isinstance(error, ImageError) else "not readable", str(error))
            return
        name = self.name(index)
        self.sizes.add(found.axes, name)
        if found.format:
            self.formats.add(found.format, name)
            self.modes.add(found.mode, name)
            self.coloured = self.coloured or found.coloured
        self.lowest = found.lowest if self.lowest is None else min(self.lowest, found.lowest)
        self.highest = found.highest if self.highest is None else max(self.highest, found.highest)
        earlier = self.first.setdefault(found.digest, index)
        if earlier != index:
            self.twice.append((index, earlier))

    def survey(self, dataset: Dataset, *, fitted: bool) -> Survey:
        """The result; see `survey`."""
        source, problems = self.source, list(self.source.problems)
        data = {key: value for key, value in to_data(dataset).items() if key != "held_out" or value}
        if fitted and source.protocol:
            data |= {"protocol": source.protocol}
        sizes = tuple(Size(axes, count, example) for axes, (count, example) in self.sizes.ranked())
        if fitted:
            square = next((each for each in sizes if len(set(each.axes)) == 1), None)
            for each in sizes:
                if each is not square:
                    shown = "x".join(map(str, each.axes))
                    message = f"the image {each.example} has {shown} pixels: resize it, or leave it out"
                    self.refused.add("another size" if square else "not square", message, each.count)
            if square is not None:
                data |= {"size": square.axes[0], "channels": 3 if self.coloured else 1}
        refused = self.refused.kinds()
        problems += [
            f"{each.example}" + (f" ({each.count:,} such images)" if each.count > 1 else "") for each in refused
        ]
        try:
            digest = source.digest if len(source) else None
        except DataError:
            digest = None
        labels = source.labels
        return Survey(
            data=data,
            sha256=digest,
            images=len(source),
            usable=len(source) - sum(each.count for each in refused),
            passed_over=tuple(Kind(what, len(names), names[0]) for what, names in source.passed_over.items()),
            refused=refused,
            problems=tuple(problems),
            classes=_classes(source),
            unlabelled=source.unlabelled,
            sizes=sizes,
            formats=self.formats.kinds(),
            modes=self.modes.kinds(),
            lowest=self.lowest,
            highest=self.highest,
            duplicates=Duplicates(
                count=len(self.twice),
                of_two_classes=sum(labels[one] != labels[other] for one, other in self.twice) if labels else 0,
                example=(self.name(self.twice[0][0]), self.name(self.twice[0][1])) if self.twice else None,
            ),
        )


def _classes(source: Source) -> tuple[ClassSize, ...]:
    if source.labels is None:
        return ()
    counts, names = Counter(source.labels), source.class_names or ()
    numbers = sorted({*counts, *range(len(names))})
    return tuple(
        ClassSize(number, names[number] if 0 <= number < len(names) else None, counts[number]) for number in numbers
    )
