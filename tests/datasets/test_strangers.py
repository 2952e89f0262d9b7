"""Data as people have it, and as attackers make it: read right, or refused in words at once."""

import io
import json
import os
import struct
import time
import tracemalloc
import warnings
import zipfile
import zlib

import numpy as np
import pytest
import torch
from PIL import Image

from msdk.datasets.base import decode
from msdk.datasets.folder import Folder
from msdk.datasets.zip import Zip
from msdk.errors import DataError


def saved(pixels, kind="png", **options):
    """An image file of an array or image."""
    buffer = io.BytesIO()
    (pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)).save(buffer, kind, **options)
    return buffer.getvalue()


GREY = np.arange(64, dtype=np.uint8).reshape(8, 8)
PNG = saved(GREY)


def refused(call, words, *, memory=2**26):
    """What a call is refused with: within a second of the processor and in little memory."""
    tracemalloc.start()
    began = time.process_time()
    try:
        with pytest.raises(DataError, match=words) as caught:
            call()
        assert time.process_time() - began < 1
        assert tracemalloc.get_traced_memory()[1] < memory
    finally:
        tracemalloc.stop()
    assert "object at 0x" not in str(caught.value)


def png_of(width, height):
    """A PNG that says it has so many pixels, and has none."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


# --- bombs ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("side", [9, 10_000, 20_000, 60_000])
def test_the_header_says_the_size_before_anything_is_decoded(side):
    """100, 400 and 3,600 megapixels are refused, as is one row too many."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        refused(lambda: decode(png_of(side, side), "x.png", (3, 8, 8)), r"x\.png (has|cannot be read: Image size)")


@pytest.mark.parametrize("method", [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
@pytest.mark.parametrize("honest", [True, False], ids=["honest", "lying"])
@pytest.mark.parametrize("name", ["a.png", "dataset.json"])
def test_entries_of_a_zip_are_bounded(method, honest, name, tmp_path):
    """What an entry says of its length is believed where it is too much, and never where it is too little."""
    size = 2**28 if method == zipfile.ZIP_DEFLATED else 2**22
    with zipfile.ZipFile(tmp_path / "x.zip", "w", method) as archive:
        archive.writestr("b.png", PNG)
        with archive.open(name, "w") as file:
            for _ in range(size // 2**20):
                file.write(bytes(2**20))
    if not honest:
        content = (tmp_path / "x.zip").read_bytes()
        (tmp_path / "x.zip").write_bytes(content.replace(struct.pack("<I", size), struct.pack("<I", len(PNG))))
    words = {
        (zipfile.ZIP_DEFLATED, True): r"in .*x\.zip has 268,435,456 bytes",
        (zipfile.ZIP_DEFLATED, False): r"x\.zip (cannot be read: Bad CRC|is not \{)",
    }
    told = words.get((method, honest), r"in .*x\.zip is compressed in another way than deflate")
    refused(lambda: Zip(path=tmp_path / "x.zip", size=8).open().read([0]), told)


def test_an_entry_of_three_gigabytes_is_refused(tmp_path):
    """By its size, which stands in the list of the zip."""
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        archive.writestr("a.png", PNG)
    content = (tmp_path / "x.zip").read_bytes()
    place = content.rindex(b"PK\x01\x02")
    content = content[: place + 24] + struct.pack("<I", 3 * 2**30) + content[place + 28 :]
    (tmp_path / "x.zip").write_bytes(content)
    refused(lambda: Zip(path=tmp_path / "x.zip", size=8).open().read([0]), r"a\.png in .* has 3,221,225,472 bytes")


def test_a_giant_file_is_refused(tmp_path):
    """A sparse one costs nothing to make."""
    with open(tmp_path / "a.png", "wb") as file:
        file.truncate(2**40)
    refused(lambda: Folder(path=tmp_path, size=8).open().read([0]), r"a\.png has 1,099,511,627,776 bytes")
    refused(lambda: Folder(path=tmp_path, size=8).open().digest, r"a\.png has 1,099,511,627,776 bytes")


@pytest.mark.parametrize("content", [b"", b"GIF89a", saved(GREY, "gif"), saved(GREY, "tiff"), b"%!PS-Adobe-3.0 EPSF"])
def test_other_formats_are_refused_whatever_they_are_called(content):
    """The error names the file, not an object's address."""
    refused(lambda: decode(content, "x.png", (1, 8, 8)), r"x\.png cannot be read: it is no PNG, JPEG, WEBP or BMP")


# --- pixels -----------------------------------------------------------------------------------------------------------


def test_sixteen_bits_of_grey_are_rounded_to_eight():
    """Not clipped to white: 0 .. 65535 becomes 0 .. 255, in grey and in colour."""
    levels = np.linspace(0, 65535, 64).astype(np.uint16).reshape(8, 8)
    expected = np.round(levels / 257).astype(np.uint8)
    for channels in (1, 3):
        image = decode(saved(levels), "x.png", (channels, 8, 8))
        assert all(np.array_equal(channel.numpy(), expected) for channel in image)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["png", "webp"])
def test_pictures_are_turned_as_their_exif_says(orientation, kind):
    """All eight ways that a camera can be held give the picture that a viewer shows."""
    turns = {
        1: lambda x: x,
        2: np.fliplr,
        3: lambda x: np.rot90(x, 2),
        4: np.flipud,
        5: np.transpose,
        6: lambda x: np.rot90(x, 3),
        7: lambda x: np.rot90(np.transpose(x), 2),
        8: lambda x: np.rot90(x, 1),
    }
    exif = Image.Exif()
    exif[0x0112] = orientation
    content = saved(np.stack([GREY] * 3, -1), kind, exif=exif, **({"lossless": True} if kind == "webp" else {}))
    assert np.array_equal(decode(content, "x", (1, 8, 8))[0].numpy(), turns[orientation](GREY))


def transparent():
    """Files with pixels that a viewer does not show, in each way that there is."""
    colour = np.stack([GREY] * 3, -1)
    half = np.dstack([colour, np.where(GREY > 30, 255, 0).astype(np.uint8)])
    yield saved(half)
    yield saved(half[..., 2:])
    yield saved(half, "webp", lossless=True)
    yield saved(colour, transparency=(5, 5, 5))
    yield saved(Image.fromarray(colour).quantize(), transparency=0)


@pytest.mark.parametrize("content", list(transparent()), ids=["rgba", "la", "webp", "colour", "palette"])
def test_hidden_colours_are_not_learned(content):
    """Transparent pixels have no colour that anybody chose."""
    refused(lambda: decode(content, "x.png", (3, 8, 8)), r"x\.png has transparent pixels")


def test_palettes_are_looked_up():
    """A palette's picture is the colours, not the numbers; an opaque one with an alpha is fine."""
    colour = np.stack([GREY * 3, GREY, 255 - GREY], -1).astype(np.uint8)
    content = saved(Image.fromarray(colour).quantize(64))
    assert np.abs(decode(content, "x", (3, 8, 8)).permute(1, 2, 0).numpy().astype(int) - colour).max() < 16
    opaque = np.dstack([colour, np.full((8, 8), 255, np.uint8)])
    assert torch.equal(decode(saved(opaque), "x", (3, 8, 8)), decode(saved(colour), "x", (3, 8, 8)))


@pytest.mark.parametrize("kind", ["png", "webp"])
def test_animations_are_refused(kind):
    """Which frame is meant nobody knows."""
    frames = [Image.fromarray(GREY), Image.fromarray(255 - GREY)]
    content = saved(frames[0], kind, save_all=True, append_images=frames[1:])
    refused(lambda: decode(content, "x.png", (1, 8, 8)), r"x\.png has several frames")


# --- folders and zips -------------------------------------------------------------------------------------------------


def store(place, names, *, zipped):
    """A folder or a zip of one picture under many names."""
    if zipped:
        with zipfile.ZipFile(place, "w") as archive:
            for name in names:
                archive.writestr(name, PNG)
        return Zip(path=place, size=8)
    for name in names:
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        (place / name).write_bytes(PNG)
    return Folder(path=place, size=8)


@pytest.mark.parametrize("zipped", [False, True])
def test_hidden_files_are_no_images(zipped, tmp_path):
    """What macOS, editors and notebooks add is neither an image nor a class."""
    seen = ["cat/1.png", "dog/1.png"]
    unseen = ["__MACOSX/cat/._1.png", ".thumbs/1.png", "cat/._1.png", "dog/.ipynb_checkpoints/1.png"]
    source = store(tmp_path / "x", [*seen, *unseen], zipped=zipped).open()
    assert len(source) == 2
    assert source.labels == (None if zipped else [0, 1])
    assert source.digest == store(tmp_path / "y", seen, zipped=zipped).open().digest


@pytest.mark.parametrize("zipped", [False, True])
def test_images_with_other_endings_are_not_left_out_in_silence(zipped, tmp_path):
    """They are counted by ending."""
    names = ["a.png", *(f"{n}.TIF" for n in range(11)), "b.gif", "notes.txt"]
    spec = store(tmp_path / "x", names, zipped=zipped)
    refused(spec.open, r"x also holds images that are not read \(1 \.gif, 11 \.tif\): convert")


def test_links_to_classes_are_followed(tmp_path):
    """A class that is a link to a folder elsewhere keeps its place; a circle, a dead link and a pipe are told."""
    store(tmp_path / "elsewhere", ["1.png"], zipped=False)
    spec = store(tmp_path / "x", ["ant/1.png", "cat/1.png"], zipped=False)
    os.symlink(tmp_path / "elsewhere", tmp_path / "x" / "bee")
    assert spec.open().labels == [0, 1, 2]
    circle = tmp_path / "x" / "cat" / "up"
    os.symlink(tmp_path / "x", circle)
    refused(spec.open, "leads back to a folder that it lies in")
    circle.unlink()
    os.symlink("nothing.png", tmp_path / "x" / "dead.png")
    refused(spec.open, r"dead\.png cannot be read: No such file")
    (tmp_path / "x" / "dead.png").unlink()
    os.mkfifo(tmp_path / "x" / "pipe.png")
    refused(spec.open, r"pipe\.png is a device or a pipe")


def test_a_listing_of_classes_is_never_passed_over(tmp_path):
    """`dataset.json` in a folder, or not at the top of a zip, would have been ignored."""
    spec = store(tmp_path / "x", ["00000/1.png"], zipped=False)
    (tmp_path / "x" / "dataset.json").write_text('{"labels": [["00000/1.png", 3]]}')
    refused(spec.open, r"dataset\.json says which classes images have, but only those in a zip")
    refused(
        store(tmp_path / "y", ["set/1.png", "set/dataset.json"], zipped=True).open, r"set/dataset\.json in .*y is not"
    )


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        ([["a.png", 2**70]], "out of range: 1180591620717411303424"),
        ([["a.png", -2]], "out of range: -2"),
        ([["a.png", 1], ["a.png", 2]], r"gives a\.png two classes, 1 and 2"),
        ("[" * 100_000, r"is not \{"),
        (f'{{"labels": [["a.png", {"1" * 5000}]]}}', r"is not \{"),
    ],
    ids=["large", "negative", "two", "deep", "digits"],
)
def test_classes_are_right_or_told(labels, words, tmp_path):
    """Numbers that are no classes, and two for one image."""
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        archive.writestr("a.png", PNG)
        archive.writestr("dataset.json", labels if isinstance(labels, str) else json.dumps({"labels": labels}))
    refused(Zip(path=tmp_path / "x.zip", size=8).open, words)
