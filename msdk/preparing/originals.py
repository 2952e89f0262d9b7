"""The pictures of archives, in the layouts in which these are published."""

import io
import pickle
import re
import tarfile
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO, cast

import attrs
import numpy as np
from PIL import Image

from msdk.datasets.base import LARGEST, FileSource, decoded
from msdk.datasets.folder import Folder
from msdk.datasets.tar import Tar, entries, entry
from msdk.datasets.zip import Zip
from msdk.errors import DataError, quoted, unknown


@attrs.frozen
class Originals:
    """Pictures of any size.

    Attributes:
        names: Of each, for messages and for telling whether these are the same ones.
        picture: Decodes one of them, and says what format its file has; an `ImageError` names it.
        labels: One class per picture, or None.
        class_names: The name of class 0, of class 1, ...; None where classes have no names.
    """

    names: Sequence[str]
    picture: Callable[[int], tuple[Image.Image, str]]
    labels: Sequence[int] | None = None
    class_names: Sequence[str] | None = None


def pictures(path: Path, split: str = "all") -> Originals:
    """All images of a folder, a .zip or a .tar, as the data sets of these names list them."""
    _refuse_split(split, ("all",), path)
    source = _source(path)
    return _of(source, range(len(source)), source.labels, source.class_names)


def cifar10(path: Path, split: str) -> Originals:
    """CIFAR-10's own archives, in the "python" and the "binary" version, packed or unpacked.

    The python version is a pickle. It is taken apart without running anything that it names. A .zip of its images, as
    EDM's dataset tool makes it, is taken whole: it is of one split.
    """
    _refuse_split(split, ("train", "test", "all"), path)
    if path.suffix.lower() == ".zip":
        return pictures(path)
    files = dict(_members(path, re.compile(r"((data|test)_batch(_\d+)?(\.bin)?|batches\.meta(\.txt)?)$")))
    wanted = {"train": "data_batch", "test": "test_batch", "all": ("data_batch", "test_batch")}[split]
    names = sorted(name for name in files if name.startswith(wanted))
    if not names:
        raise DataError(
            f"{path} has no {split} batches of CIFAR-10: give cifar-10-python.tar.gz, cifar-10-binary.tar.gz, the "
            "folder that one of them unpacks to, or a .zip of its images"
        )
    pixels: list[np.ndarray[Any, np.dtype[np.uint8]]] = []
    labels: list[int] = []
    called: list[str] = []
    for name in names:
        read = _binary if name.endswith(".bin") else _pickled
        found, classes = read(files[name], f"{name} of {path}")
        pixels.append(found)
        labels += classes
        called += [f"image {index} of {name} in {path}" for index in range(len(classes))]
    images = np.concatenate(pixels).reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
    meta = next((name for name in files if name.startswith("batches.meta")), "")
    known = _class_names(files[meta], meta, path) if meta else None
    if any(not 0 <= label < 10 for label in labels):
        raise DataError(f"{path} has classes outside of 0 .. 9: this is not CIFAR-10")
    return Originals(called, lambda index: (Image.fromarray(images[index]), ""), labels, known)


def celeba(path: Path, split: str) -> Originals:
    """CelebA, aligned and cropped: img_align_celeba(.zip), with list_eval_partition.txt in it or beside it."""
    _refuse_split(split, ("train", "valid", "test", "all"), path)
    source = _source(path)
    last = [
        source.name(index).partition(" in ")[0].replace("\\", "/").rpartition("/")[2] for index in range(len(source))
    ]
    if split == "all":
        return _of(source, range(len(source)), None, None)
    part, wanted = _partition(path), {"train": 0, "valid": 1, "test": 2}[split]
    missing = [name for name in last if name not in part]
    if missing:
        raise DataError(f"{PARTITION} does not say to which split {missing[0]} belongs ({len(missing):,} such images)")
    return _of(source, [index for index, name in enumerate(last) if part[name] == wanted], None, None)


PARTITION = "list_eval_partition.txt"
"""CelebA's own list of splits: a name and 0, 1 or 2 in each line."""


def imagenet(path: Path, split: str) -> Originals:
    """ImageNet's training images: ILSVRC2012_img_train.tar, with a tar for each class in it, or folders of classes.

    Classes are numbered in the order of their names (n01440764, ...), as everywhere.
    """
    _refuse_split(split, ("train",), path)
    tars = sorted(path.glob("*.tar")) if path.is_dir() else []
    if path.is_dir() and not tars:
        return pictures(path)
    inside: list[tuple[Path, str, tuple[int, int]]] = []
    classes: list[str] = []
    for one in tars or [path]:
        if one.suffix != ".tar":
            return pictures(path)
        outer = entries(one)
        nested = sorted(name for name in outer if name.endswith(".tar"))
        if not nested and not tars:  # folders of classes in one tar
            nested_names = sorted(outer)
            inside += [(one, name, outer[name]) for name in nested_names]
            classes += [name.rpartition("/")[0].rpartition("/")[2] for name in nested_names]
        elif not nested:
            inside += [(one, name, outer[name]) for name in sorted(outer)]
            classes += [one.stem] * len(outer)
        for name in nested:
            within = entries(one, *outer[name])
            inside += [(one, each, within[each]) for each in sorted(within)]
            classes += [Path(name).stem] * len(within)
    if not inside:
        raise DataError(f"{path} holds no images: give ILSVRC2012_img_train.tar, or the folder of its classes")
    names = sorted(set(classes))
    numbers = {name: number for number, name in enumerate(names)}

    def read(index: int) -> tuple[Image.Image, str]:
        tar, name, (start, size) = inside[index]
        return decoded(entry(tar, name, start, size, LARGEST), f"{name} in {tar}")[:2]

    labels = [numbers[name] for name in classes] if "" not in numbers else None
    return Originals([f"{name} in {tar}" for tar, name, _ in inside], read, labels, names if labels else None)


def _refuse_split(split: str, allowed: Sequence[str], path: Path) -> None:
    if split not in allowed:
        raise DataError(f"{path}: {unknown('split', split, allowed)}")


def _source(path: Path) -> FileSource:
    """The files of a folder, .zip or .tar, of any size."""
    if not path.exists():
        raise DataError(f"{path} does not exist")
    kind = Folder if path.is_dir() else {".zip": Zip, ".tar": Tar}.get(path.suffix.lower())
    if kind is None:
        raise DataError(f"{path} is no folder, .zip or .tar")
    source = kind(path=path).look()
    if source.problems:
        raise DataError(source.problems[0])
    return source


def _of(
    source: FileSource, indices: Sequence[int], labels: Sequence[int] | None, names: Sequence[str] | None
) -> Originals:
    def read(index: int) -> tuple[Image.Image, str]:
        return decoded(source.content(indices[index], LARGEST), source.name(indices[index]))[:2]

    return Originals([source.name(index) for index in indices], read, labels, names)


MOST = 2**31
"""Bytes that an archive of CIFAR-10 may unpack to; the right ones have 186 MB."""


def _members(path: Path, wanted: re.Pattern[str]) -> Iterator[tuple[str, bytes]]:
    """Files of a folder or of a tar, packed or not, whose last name matches."""
    if path.is_dir():
        for file in sorted(path.rglob("*")):
            if wanted.match(file.name) and file.is_file():
                if file.stat().st_size > LARGEST:
                    raise DataError(f"{file} has {file.stat().st_size:,} bytes, too many for a part of CIFAR-10")
                yield file.name, file.read_bytes()
        return
    unpacked = 0
    try:
        with tarfile.open(path) as tar:
            for member in tar:
                unpacked += member.size
                if member.size > LARGEST or unpacked > MOST:
                    raise DataError(f"{path} unpacks to more than {MOST:,} bytes: this is not CIFAR-10")
                name = member.name.rpartition("/")[2]
                if member.isreg() and wanted.match(name):
                    yield name, cast("BinaryIO", tar.extractfile(member)).read()
    except (tarfile.TarError, OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path} is not a readable archive: {error}") from error


RECORD = 1 + 3 * 32 * 32


def _binary(content: bytes, name: str) -> tuple["np.ndarray[Any, np.dtype[np.uint8]]", list[int]]:
    """Records of a class and 3 x 32 x 32 levels."""
    if not content or len(content) % RECORD:
        raise DataError(f"{name} has {len(content):,} bytes, which is no multiple of {RECORD:,}: it is damaged")
    records = np.frombuffer(content, dtype=np.uint8).reshape(-1, RECORD)
    return records[:, 1:], records[:, 0].tolist()


class _Named:
    """Stands for what a pickle makes of a name and arguments. It is kept, and nothing is run."""

    def __init__(self, name: str, arguments: tuple[Any, ...]) -> None:
        self.name, self.arguments, self.state = name, arguments, cast("tuple[Any, ...]", ())

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self.state = state


def _encoded(text: str, coding: object) -> bytes:
    """Bytes, as Python 3 writes them for Python 2."""
    del coding
    return text.encode("latin1")


class _Plain(pickle.Unpickler):
    def find_class(self, module_name: str, global_name: str, /) -> Any:
        if (module_name, global_name) == ("_codecs", "encode"):
            return _encoded
        return lambda *arguments: _Named(global_name, arguments)  # pyright: ignore[reportUnknownLambdaType]


def _unpickled(content: bytes, name: str) -> Mapping[str, Any]:
    """The dictionary of a pickle, whose arrays are left as what they were made of."""
    try:
        found = _Plain(io.BytesIO(content), encoding="bytes").load()
        return {key.decode() if isinstance(key, bytes) else key: value for key, value in found.items()}
    except Exception as error:  # pickles of strangers raise anything
        raise DataError(f"{name} is not a batch of CIFAR-10: {type(error).__name__}: {error}") from error


def _pickled(content: bytes, name: str) -> tuple["np.ndarray[Any, np.dtype[np.uint8]]", list[int]]:
    found = _unpickled(content, name)
    try:
        levels, labels = _bytes_of(found["data"]), list(found["labels"])
        pixels = np.frombuffer(levels, dtype=np.uint8).reshape(len(labels), RECORD - 1)
        return pixels, [int(label) for label in labels]
    except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
        raise DataError(f"{name} is not a batch of CIFAR-10: {type(error).__name__}: {error}") from error


def _bytes_of(array: _Named) -> bytes:
    """The bytes of an array of NumPy's, from what its pickle says of it."""
    if array.name == "_frombuffer":
        buffer, kind = array.arguments[0], array.arguments[1]
    else:
        _, _, kind, fortran, buffer = array.state
        if fortran:
            raise ValueError("the array lies in another order")
    if not isinstance(kind, _Named) or kind.arguments[0] not in (b"u1", "u1", b"|u1", "|u1"):
        raise ValueError("its levels are no bytes")
    if not isinstance(buffer, (bytes, bytearray)):
        raise ValueError("its levels are no bytes")
    return bytes(buffer)


def _text(value: object) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


def _class_names(content: bytes, name: str, path: Path) -> Sequence[str]:
    if name.endswith(".txt"):
        return content.decode(errors="replace").split()
    found = _unpickled(content, f"{name} of {path}").get("label_names")
    if not isinstance(found, list) or not all(isinstance(each, (str, bytes)) for each in cast("list[object]", found)):
        raise DataError(f"label_names in {name} of {path} are a list of text, got {quoted(found)}")
    return [_text(each) for each in cast("list[object]", found)]


def _partition(path: Path) -> Mapping[str, int]:
    """CelebA's list of splits, from the archive, its folder, or beside it."""
    places = (path / PARTITION, path.parent / PARTITION, path.parent / "Eval" / PARTITION, path / "Eval" / PARTITION)
    text = next((place.read_text(errors="replace") for place in places if place.is_file()), None)
    if text is None:
        raise DataError(
            f"there is no {PARTITION} in {path} or beside it, which says what is for training: put it "
            "there, or take --split all"
        )
    pairs = [line.split() for line in text.splitlines() if line.strip()]
    wrong = [pair for pair in pairs if len(pair) != 2 or pair[1] not in ("0", "1", "2")]
    if wrong:
        raise DataError(f"{PARTITION} has a line {quoted(' '.join(wrong[0]))}, not a name and 0, 1 or 2")
    return {name: int(number) for name, number in pairs}
