"""An attack on folders and zips: each way to spoil them is read right, or refused with the name of what is at fault."""

import io
import json
import os
import random
import re
import warnings
import zipfile

import numpy as np
import pytest
import torch
from PIL import Image

from msdk.datasets.base import decode
from msdk.datasets.folder import Folder
from msdk.datasets.shards import Shards
from msdk.datasets.zip import Zip
from msdk.errors import DataError

PIXELS = np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8)


def encoded(kind="png", pixels=PIXELS, **options):
    buffer = io.BytesIO()
    (pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)).save(buffer, kind, **options)
    return buffer.getvalue()


PNG = encoded()


def folder(place, *names, content=PNG):
    """A folder of one picture under many names, text or bytes."""
    for name in names:
        path = os.path.join(os.fsencode(place), os.fsencode(name))
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "wb") as file:
            file.write(content)
    return Folder(path=place, size=8)


def zipped(place, *names, listing=None, file="x.zip"):
    """A zip of one picture under many names, and a dataset.json."""
    with warnings.catch_warnings(), zipfile.ZipFile(place / file, "w") as archive:
        warnings.simplefilter("ignore")  # of two entries of one name
        for name in names:
            archive.writestr(name, PNG)
        if listing is not None:
            archive.writestr("dataset.json", listing if isinstance(listing, str) else json.dumps(listing))
    return Zip(path=place / file, size=8)


def linked(place, name, target):
    os.symlink(target, place / name)
    return folder(place, "cat/1.png")


def labelled(place, *labels, **more):
    names = [f"{number}.png" for number in range(len(labels))]
    listing = {"labels": [list(pair) for pair in zip(names, labels, strict=True)], **more}
    return zipped(place, *names, listing=listing)


def shards(place, *names):
    for number, classes in enumerate(names):
        listing = {"labels": [["a.png", number]], "class_names": classes}
        zipped(place, "a.png", listing=listing if classes else None, file=f"part{number}.zip")
    folder(place, "._part0.zip", content=b"of macOS")
    return Shards(path=place, size=8)


def cut(place):
    spec = zipped(place, "a.png")
    spec.path.write_bytes(spec.path.read_bytes()[:-30])
    return spec


RIGHT = {
    "capitals": (lambda p: folder(p, "A.PNG", "b.Png"), 2, None),
    "names that are not UTF-8": (lambda p: folder(p, b"caf\xe9.png", "b.png"), 2, None),
    "classes that are not UTF-8": (lambda p: folder(p, b"caf\xe9/1.png", "b/1.png"), 2, ["b", "caf\udce9"]),
    "control characters": (lambda p: folder(p, "a\nb.png", "c\x1b[31m.png"), 2, None),
    "stray images": (lambda p: folder(p, "cat/1.png", "dog/1.png", "stray.png"), 3, None),
    "an empty class": (lambda p: folder(p, "cat/1.png", "dog/readme.txt", "emu/1.png"), 2, ["cat", "emu"]),
    "a folder like an image": (lambda p: folder(p, "x.png/a.png", "y.png/a.png"), 2, ["x.png", "y.png"]),
    "an archive beside": (lambda p: folder(p, "cat/1.png", "old.zip"), 1, ["cat"]),
    "deep": (lambda p: folder(p, "/".join(["d"] * 300) + "/a.png"), 1, ["d"]),
    "a link to a file": (lambda p: (folder(p, "cat/1.png"), linked(p, "cat/2.png", "1.png"))[1], 2, ["cat"]),
    "dots in a zip": (lambda p: zipped(p, "./a.png", "../b.png", "./.c.png", "__MACOSX/._a.png"), 2, None),
    "backslashes in a zip": (lambda p: zipped(p, "cat\\a.png", "__MACOSX\\cat\\._a.png"), 1, None),
    "classes with holes": (lambda p: labelled(p, 0, 5), 2, None),
    "more names than classes": (lambda p: labelled(p, 0, 1, class_names=["a", "b", "c"]), 2, ["a", "b", "c"]),
    "classes of images that are gone": (
        lambda p: zipped(p, "a.png", listing={"labels": [["a.png", 0], ["b.png", 1]]}),
        1,
        None,
    ),
    "shards": (lambda p: shards(p, ["cat"], ["cat", "dog"]), 2, ["cat", "dog"]),
    "a shard without classes": (lambda p: shards(p, ["cat"], None), 2, None),
}
"""Kind -> what makes it, its images, and the names of its classes."""

WRONG = {
    "a listing in a folder": (lambda p: folder(p, "a/dataset.json", "a/1.png"), r"a/dataset\.json says which"),
    "only archives": (lambda p: folder(p, "old.zip"), r"holds no images .* but archives \(old\.zip\)"),
    "truncated": (lambda p: folder(p, "a.png", content=PNG[:-30]), r"a\.png cannot be read: image file is trunc"),
    "empty": (lambda p: folder(p, "a.png", content=b""), r"a\.png cannot be read: it is no PNG, JPEG, WEBP or BMP"),
    "a web page": (lambda p: folder(p, "a.jpg", content=b"<html>"), r"a\.jpg cannot be read: it is no PNG"),
    "of another size": (lambda p: folder(p, "a.png", content=encoded(pixels=PIXELS[:4])), r"a\.png has 4x8 pixels"),
    "a dead link to a class": (lambda p: linked(p, "bee", "nowhere"), r"bee cannot be read: No such file"),
    "a link to itself": (lambda p: linked(p, "me", "me"), r"me cannot be read: Too many levels"),
    "a link upwards": (lambda p: linked(p, "up", "."), r"up leads back to a folder"),
    "a link to a device": (lambda p: linked(p, "zero", "/dev/zero"), r"zero is a device or a pipe"),
    "no images": (lambda p: folder(p, "notes.txt"), r"holds no images \(\.bmp"),
    "other endings": (lambda p: folder(p, "a.GIF", "b.heic"), r"holds images .* \(1 \.gif, 1 \.heic\): convert"),
    "a file for a folder": (lambda p: Folder(path=zipped(p, "a.png").path, size=8), r"there is no folder .*x\.zip"),
    "a folder for a zip": (lambda p: Zip(path=p, size=8), "there is no file"),
    "two entries of one name": (lambda p: zipped(p, "a.png", "b.png", "a.png"), r"two entries of one name, a\.png"),
    "a zip that is cut": (cut, r"x\.zip is not a readable zip file"),
    "a zip without images": (lambda p: zipped(p, "a.txt"), r"x\.zip holds no images"),
    "a listing in a folder of a zip": (
        lambda p: zipped(p, "s/a.png", "s/dataset.json"),
        r"s/dataset\.json in .*x\.zip",
    ),
    "an image without a class": (
        lambda p: zipped(p, "a.png", "b.png", "c.png", listing={"labels": [["b.png", 0]]}),
        r"x\.zip has no label for a\.png and 1 more",
    ),
    "class names as a table": (lambda p: labelled(p, 0, class_names={"0": "cat"}), r"class_names in dataset\.json"),
    "class names that are too few": (lambda p: labelled(p, 0, 1, class_names=["a"]), "are the names of class 0 to"),
    "a class name twice": (lambda p: labelled(p, 0, 1, class_names=["a", "a"]), "has 'a' twice"),
    "shards that contradict": (lambda p: shards(p, ["cat"], ["ant", "dog"]), r"part0\.zip calls a class 'cat' that"),
    **{
        f"the class {value!r}": (
            lambda p, value=value: labelled(p, value),
            r"class of 0\.png in dataset\.json of .*x\.zip",
        )
        for value in (True, 1.0, "1", None, [1], {"a": 1}, -2, 2**31)
    },
    **{
        f"the listing {text!r}": (
            lambda p, text=text: zipped(p, "a.png", listing=text),
            r"dataset\.json (in|of) .*x\.zip (is not \{|has no label)",
        )
        for text in ("[]", "3", "\0", "", '{"labels": {"a.png": 1}}', '{"labels": [[["a.png"], 1]]}', '{"labels": [1]}')
    },
}
"""Kind -> what makes it, and what it is refused with."""


@pytest.mark.parametrize("kind", RIGHT)
def test_what_is_odd_is_read(kind, tmp_path):
    """Images and classes are all there, whatever they are called; the digest can be had."""
    make, count, names = RIGHT[kind]
    source = make(tmp_path).open()
    assert (len(source), source.class_names) == (count, names)
    expected = torch.from_numpy(PIXELS).permute(2, 0, 1)
    assert all(torch.equal(image, expected) for image in source.read(range(count)).images)
    assert len(source.digest) == 64
    if kind == "stray images":
        assert re.search(r"stray\.png in .* lie beside the folders", source.unlabelled)


@pytest.mark.parametrize("kind", WRONG)
def test_what_is_spoilt_is_refused(kind, tmp_path):
    """In words that name the file, never an object's address; at once, or when the image is read."""
    make, words = WRONG[kind]
    with pytest.raises(DataError, match=words) as caught:
        make(tmp_path).open().read([0])
    assert "object at 0x" not in str(caught.value)


def outcome(call):
    """What a call returns, or the `DataError` that it raises."""
    try:
        return call()
    except DataError as error:
        return error


@pytest.mark.parametrize("kind", ["png", "jpeg", "webp", "bmp"])
def test_no_damage_of_a_file_gets_through(kind):
    """Bytes changed, cut out and added: refused by name; a PNG, which has checksums, is else read right."""
    whole, drawn = encoded(kind), random.Random(0)
    expected, refused = decode(whole, "x", (3, 8, 8)), 0
    for _ in range(300):
        first = drawn.randrange(len(whole))
        last = min(first + drawn.choice((0, 0, 1, 7)), len(whole))
        damaged = whole[:first] + drawn.randbytes(drawn.choice((0, 1, 1, 7))) + whole[last:]
        found = outcome(lambda damaged=damaged: decode(damaged, "x.png", (3, 8, 8)))
        if isinstance(found, DataError):
            refused += 1
            assert re.search(r"^the image x\.png (?!.*object at 0x)", str(found))
        else:
            assert found.shape == (3, 8, 8)
            assert kind != "png" or torch.equal(found, expected)
    assert refused > 60
