"""Crops, encodes and packs pictures, in parts that a later call goes on from."""

import contextlib
import hashlib
import io
import json
import os
import shutil
import tarfile
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Literal, NamedTuple

import attrs
import PIL

from msdk import __version__
from msdk.arguments import as_annotated
from msdk.datasets.listing import LABELS
from msdk.datasets.tar import Tar
from msdk.datasets.zip import Zip
from msdk.errors import DataError, RunError, unknown
from msdk.preparing.crops import CROPS
from msdk.preparing.originals import Originals, celeba, cifar10, imagenet, pictures
from msdk.recipe.results import to_json
from msdk.runs.files import written_whole
from msdk.runs.writer import one_writer


@attrs.frozen
class Archive:
    """Something that can be prepared.

    Attributes:
        data: The first half of its protocols' names.
        size: Side of the images; None where it must be given.
        crops: The usual crops, the default first; any other may be asked for.
        open: Finds the pictures at a path, of one split.
        split: What is taken where nothing else is said.
        takes: What to give, in words.
    """

    data: str
    size: int | None
    crops: Sequence[str]
    open: Callable[[Path, str], Originals]
    split: str
    takes: str


_CELEBA = "img_align_celeba(.zip) with list_eval_partition.txt in it or beside it"
_FACES = ("crop140", "crop128", "crop108", "resize-bilinear")
ARCHIVES: Mapping[str, Archive] = {
    "cifar10": Archive(
        "cifar10",
        32,
        ("as-is", "average"),
        cifar10,
        "train",
        "cifar-10-python.tar.gz, cifar-10-binary.tar.gz, or a .zip of its images",
    ),
    "celeba32": Archive("celeba", 32, _FACES, celeba, "train", _CELEBA),
    "celeba64": Archive("celeba", 64, _FACES, celeba, "train", _CELEBA),
    "celeba256": Archive("celebahq", 256, ("resize", "center-crop"), pictures, "all", "the images of CelebA-HQ"),
    "ffhq64": Archive("ffhq", 64, ("resize",), pictures, "all", "images1024x1024 or thumbnails128x128 of FFHQ"),
    "imagenet64": Archive(
        "imagenet", 64, ("dhariwal", "center-crop"), imagenet, "train", "ILSVRC2012_img_train.tar, or its classes"
    ),
    "folder": Archive("folder", None, ("center-crop", "dhariwal", "resize", "as-is"), pictures, "all", "any images"),
}
"""Name -> what it is."""

Format = Literal["png", "raw"]
"""PNG, or pixels as they are (BMP), which take more room and no time to decode."""

AT_ONCE = 1000
"""Images of a part."""


@attrs.frozen(kw_only=True)
class Prepared:
    """What was made.

    Attributes:
        path: The file.
        protocol: What it was made by: "celeba:crop140".
        images: How many it holds.
        classes: How many classes these have; 0 without classes.
        size: Their side in pixels.
        channels: 3 or 1.
        sha256: Digest of the data, as data sets have it.
        jpeg: How many of the pictures were JPEG files.
        kept: Images that an earlier, interrupted call had made.
    """

    path: Path
    protocol: str
    images: int
    classes: int
    size: int
    channels: int
    sha256: str
    jpeg: int
    kept: int

    def as_json(self) -> dict[str, Any]:
        """The object of `msdk data prepare --json`."""
        return to_json(self)


class _Plan(NamedTuple):
    """All that the content of the file follows from."""

    protocol: str
    split: str
    size: int
    channels: int
    format: Format
    pictures: str
    msdk: str = __version__
    pillow: str = PIL.__version__


@as_annotated
def prepare(
    archive: str,
    source: str | Path,
    out: str | Path,
    *,
    protocol: str | None = None,
    size: int | None = None,
    channels: int = 3,
    split: str | None = None,
    format: Format = "png",
    workers: int | None = None,
    force: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> Prepared:
    """Makes a .zip or .tar that training reads of an archive as it was published.

    Its bytes depend neither on the number of workers nor on whether the call was interrupted: what was made until then
    lies beside `out`, and the next call goes on from there.

    Args:
        archive: A name of `ARCHIVES`.
        source: Where it lies.
        out: What to write; .zip, or .tar as webdataset has it.
        protocol: How pictures become squares: "celeba:crop140", or the crop alone; the archive's first when not given,
            that is not "as-is" where `size` is another one than the archive's.
        size: Side of the images in pixels; that of the archive's name when not given.
        channels: 3 for colour, 1 for grey.
        split: "train", "valid", "test" or "all", where the archive has splits; those for training when not given.
        format: "png", or "raw" for BMP.
        workers: Threads; as many as there are CPUs when not given.
        force: Replace `out`.
        progress: Told (images done, images in all).

    Raises:
        DataError: The archive has another layout, is damaged, or has an image that cannot be used.
        RunError: `out` exists, is being written by another process, or cannot be written.
        UnknownNameError: There is no such archive or protocol.
    """
    path, target = Path(source), Path(out)
    chosen, crop = _chosen(archive, protocol, size)
    side = size or chosen.size
    if side is None:
        raise DataError(f"'{archive}' has pictures of any size: say what side the images are to have (--size)")
    for what, value in (("size", side), ("workers", 1 if workers is None else workers)):
        if value < 1:
            raise DataError(f"{what} must be 1 or more, got {value}")
    if channels not in (1, 3):
        raise DataError(f"channels must be 3 for colour or 1 for grey, got {channels}")
    if target.suffix not in (".zip", ".tar"):
        raise DataError(f"{target} must end in .zip, or in .tar for the layout of webdataset")
    if target.exists() and not force:
        raise RunError(f"{target} exists: give another name, or --force to replace it")
    part = split or chosen.split
    originals = chosen.open(path, part)
    if not originals.names:
        raise DataError(f"{path} has no images of the split '{part}'")
    listing = hashlib.sha256("\0".join(name.removeprefix(str(path)) for name in originals.names).encode()).hexdigest()
    plan = _Plan(f"{chosen.data}:{crop}", part, side, channels, format, listing)
    with one_writer(target):
        parts = _parts(target, plan)
        jpeg, kept = _make(parts, plan, originals, workers or os.cpu_count() or 1, progress or (lambda *_: None))
        _pack(parts, target, plan, originals, jpeg)
        shutil.rmtree(parts)
    reader = Zip if target.suffix == ".zip" else Tar
    made = reader(path=target, size=side, channels=channels).open()
    return Prepared(
        path=target,
        protocol=plan.protocol,
        images=len(made),
        classes=len(set(originals.labels or ())),
        size=side,
        channels=channels,
        sha256=made.digest,
        jpeg=jpeg,
        kept=kept,
    )


def _chosen(archive: str, protocol: str | None, size: int | None) -> tuple[Archive, str]:
    """The archive and the crop of a protocol, named in full or by its second half."""
    if archive not in ARCHIVES:
        raise DataError(unknown("archive", archive, ARCHIVES))
    chosen = ARCHIVES[archive]
    usual = [each for each in chosen.crops if each != "as-is" or size in (None, chosen.size)]
    data, colon, crop = (protocol or usual[0]).rpartition(":")
    if crop not in CROPS or (colon and data != chosen.data):
        raise DataError(unknown("protocol", protocol or "", [f"{chosen.data}:{each}" for each in CROPS]))
    return chosen, crop


def _parts(target: Path, plan: _Plan) -> Path:
    """The folder of parts, with those of an earlier call with the same plan; others are thrown away."""
    folder = target.with_name(f".{target.name}.parts")
    file, content = folder / "plan.json", json.dumps(plan._asdict())
    with contextlib.suppress(OSError):
        if file.read_text(encoding="utf-8") == content:
            return folder
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    with written_whole(file) as temporary:
        temporary.write_text(content, encoding="utf-8")
    return folder


def _make(
    parts: Path, plan: _Plan, originals: Originals, workers: int, progress: Callable[[int, int], None]
) -> tuple[int, int]:
    """Makes the parts that are not there: how many pictures were JPEG, and how many images were there."""
    crop, total = CROPS[plan.protocol.rpartition(":")[2]], len(originals.names)
    mode, kind = "L" if plan.channels == 1 else "RGB", {"png": "png", "raw": "bmp"}[plan.format]

    def made(index: int) -> tuple[bytes, bool]:
        found, form = originals.picture(index)
        image = crop(found if found.mode == mode else found.convert(mode), plan.size, originals.names[index])
        buffer = io.BytesIO()
        image.save(buffer, kind)
        return buffer.getvalue(), form in ("JPEG", "MPO")

    jpeg = kept = 0
    with ThreadPoolExecutor(workers) as pool:
        for first in range(0, total, AT_ONCE):
            indices = range(first, min(first + AT_ONCE, total))
            file = parts / f"{first // AT_ONCE:06d}.zip"
            if file.is_file():
                with zipfile.ZipFile(file) as archive:
                    jpeg += int(archive.comment)
                kept += len(indices)
                progress(indices.stop, total)
                continue
            with written_whole(file) as temporary, zipfile.ZipFile(temporary, "w") as archive:
                jpegs = 0
                try:
                    for index, (content, was_jpeg) in zip(indices, pool.map(made, indices), strict=True):
                        archive.writestr(_entry(index, kind), content)
                        jpegs += was_jpeg
                        if index % 100 == 99 or index + 1 == total:
                            progress(index + 1, total)
                except BaseException:
                    pool.shutdown(cancel_futures=True)
                    raise
                archive.comment = str(jpegs).encode()
                jpeg += jpegs
    return jpeg, kept


def _entry(index: int, kind: str) -> str:
    return f"{index // AT_ONCE:05d}/img{index:08d}.{kind}"


def _pack(parts: Path, target: Path, plan: _Plan, originals: Originals, jpeg: int) -> None:
    """Puts the parts into one file."""
    labels = originals.labels
    made = {"protocol": plan.protocol, "split": plan.split, "size": plan.size, "format": plan.format, "jpeg": jpeg}
    notes: dict[str, Any] = {"labels": None}
    with written_whole(target) as temporary:
        names: list[str] = []
        with _Zipped(temporary) if target.suffix == ".zip" else _Tarred(temporary) as packed:
            for index, (name, content) in enumerate(_contents(parts)):
                names.append(name)
                packed.add(name, content)
                if labels is not None:
                    packed.label(name, labels[index])
            if labels is not None and target.suffix == ".zip":
                notes["labels"] = [[name, label] for name, label in zip(names, labels, strict=True)]
            if originals.class_names is not None:
                notes["class_names"] = list(originals.class_names)
            versions = {"msdk": plan.msdk, "pillow": plan.pillow}
            packed.add(LABELS, json.dumps({**notes, "prepared": {**made, **versions}}).encode())


def _contents(parts: Path) -> Iterator[tuple[str, bytes]]:
    for part in sorted(parts.glob("*.zip")):
        with zipfile.ZipFile(part) as archive:
            for name in archive.namelist():
                yield name, archive.read(name)


class _Zipped:
    """A zip file whose bytes depend on its content alone: no time of day, no user."""

    def __init__(self, path: Path) -> None:
        self._file = zipfile.ZipFile(path, "w")

    def __enter__(self) -> "_Zipped":
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def add(self, name: str, content: bytes) -> None:
        entry = zipfile.ZipInfo(name)
        entry.external_attr = 0o644 << 16
        self._file.writestr(entry, content)

    def label(self, name: str, label: int) -> None:
        """Classes stand in dataset.json."""


class _Tarred:
    """A tar file, likewise."""

    def __init__(self, path: Path) -> None:
        self._file = tarfile.open(path, "w", format=tarfile.USTAR_FORMAT)  # noqa: SIM115  closed by __exit__

    def __enter__(self) -> "_Tarred":
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def add(self, name: str, content: bytes) -> None:
        entry = tarfile.TarInfo(name)
        entry.size = len(content)
        self._file.addfile(entry, io.BytesIO(content))

    def label(self, name: str, label: int) -> None:
        self.add(f"{name.rpartition('.')[0]}.cls", str(label).encode())
