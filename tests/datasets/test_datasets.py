"""Data sets give the images and classes they say they have, or name the file that is at fault."""

import io
import json
import zipfile
from importlib import resources

import numpy as np
import pytest
import torch
from PIL import Image

from msdk import datasets
from msdk.datasets.digits import Digits
from msdk.datasets.folder import Folder
from msdk.datasets.shards import Shards
from msdk.datasets.zip import Zip
from msdk.errors import DataError


def encoded(level=0, *, mode="RGB", size=(8, 8), kind="png"):
    """One image file of a single colour."""
    buffer = io.BytesIO()
    Image.new(mode, size, level).save(buffer, kind)
    return buffer.getvalue()


def outcome(call):
    """What a call returns, or the `DataError` that it raises."""
    try:
        return call()
    except DataError as error:
        return error


def noisy(kind):
    """One image file that no compression makes small."""
    buffer = io.BytesIO()
    pixels = np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(buffer, kind)
    return buffer.getvalue()


@pytest.fixture(params=["folder", "zip"])
def store(request, tmp_path):
    """Writes files (name -> bytes) as a folder or as a zip file and gives the spec that opens them."""
    seen = []

    def store(files, **fields):
        seen.append(None)
        place = tmp_path / f"{request.param}{len(seen)}"
        if request.param == "zip":
            with zipfile.ZipFile(place, "w") as archive:
                for name, content in files.items():
                    archive.writestr(name, content)
            return Zip(path=place, size=8, **fields)
        for name, content in files.items():
            file = place / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(content)
        place.mkdir(exist_ok=True)
        return Folder(path=place, size=8, **fields)

    return store


@pytest.fixture
def zipped(tmp_path):
    """Writes a zip file of an image per name, and optionally a dataset.json; gives the spec that opens it."""

    def zipped(names, listing=None, *, method=zipfile.ZIP_STORED):
        with zipfile.ZipFile(tmp_path / "images.zip", "w", method) as archive:
            for index, name in enumerate(names):
                archive.writestr(name, encoded((index, 0, 0)))
            if listing is not None:
                archive.writestr("dataset.json", listing if isinstance(listing, str) else json.dumps(listing))
        return Zip(path=tmp_path / "images.zip", size=8)

    return zipped


# --- digits -----------------------------------------------------------------------------------------------------------


def test_digits_are_all_there():
    """1,797 grey images of 8x8 pixels with ten classes, in the full range of uint8, without a download."""
    digits = Digits()
    source = digits.open()
    images = source.read(range(len(source))).images
    assert (len(source), digits.shape) == (1797, (1, 8, 8))
    assert (images.shape, images.dtype, images.device.type) == ((1797, 1, 8, 8), torch.uint8, "cpu")
    assert set(images.unique().tolist()) == {round(level * 255 / 16) for level in range(17)}
    assert sorted(set(source.labels)) == list(range(10))
    assert all(type(label) is int for label in source.labels)
    assert min(source.labels.count(digit) for digit in range(10)) == 174


def test_digits_come_with_their_licence_and_stay_small():
    """The data file is below 100 kB and its licence lies beside it."""
    folder = resources.files("msdk.datasets")
    assert len(folder.joinpath("digits.npz").read_bytes()) < 100_000
    assert "CC BY 4.0" in folder.joinpath("digits.LICENSE.md").read_text()


def test_digits_are_the_same_every_time():
    """Opening twice gives one digest and the same pixels, and what a reader does to its batch changes no other."""
    one, two = Digits().open(), Digits().open()
    one.read([0]).images.zero_()
    assert one.digest == two.digest
    assert torch.equal(one.read([0, 5]).images, two.read([0, 5]).images)
    assert two.read([0]).images.any()


# --- folder and zip ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["folder", "zip"])
def test_the_shape_is_known_without_the_data(name, tmp_path):
    """A recipe is checked before its images are there."""
    assert datasets.get(name)(path=tmp_path / "none", size=16, channels=1).shape == (1, 16, 16)


def test_images_are_read_in_the_order_of_their_names(store):
    """Names sort, subfolders included; reading follows the indices asked for; other files are passed over."""
    levels = {"b.png": 3, "a/z.PNG": 1, "a/y.jpeg": 0, "c.webp": 4, "b.bmp": 2}
    files = {name: encoded((50 * level,) * 3, kind=name.rpartition(".")[2].lower()) for name, level in levels.items()}
    source = store({**files, "notes.txt": b"hello", "png": b"", "folder.png/readme.md": b""}).open()
    images = source.read([4, 0, 2, 0]).images
    assert (len(source), images.shape, images.dtype) == (5, (4, 3, 8, 8), torch.uint8)
    assert (images.amax((1, 2, 3)).float() / 50).round().tolist() == [4, 0, 2, 0]
    assert source.labels is None


def test_sub_folders_are_classes(tmp_path):
    """The first sub-folder of each image, numbered by name, is its class; an image beside them leaves no labels."""
    for name in ("dog/x.png", "cat/y.png", "cat/deep/z.png", "ant/readme.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(encoded())
    source = Folder(path=tmp_path, size=8).open()
    assert source.labels == [0, 0, 1]  # cat, cat, dog: a folder without images is no class
    assert all(type(label) is int for label in source.labels)
    (tmp_path / "stray.png").write_bytes(encoded())
    assert Folder(path=tmp_path, size=8).open().labels is None


@pytest.mark.parametrize(
    ("mode", "level", "channels", "expected"),
    [
        ("RGB", (10, 20, 30), 3, [10, 20, 30]),
        ("RGB", (10, 20, 30), 1, [round(0.299 * 10 + 0.587 * 20 + 0.114 * 30)]),
        ("L", 7, 3, [7, 7, 7]),
        ("L", 7, 1, [7]),
        ("RGBA", (1, 2, 3, 255), 3, [1, 2, 3]),
        ("LA", (7, 255), 1, [7]),
        ("P", 0, 3, [0, 0, 0]),
        ("1", 1, 1, [255]),
    ],
)
def test_images_are_converted_to_the_channels_asked_for(store, mode, level, channels, expected):
    """Grey becomes colour and colour grey; an opaque alpha is dropped."""
    source = store({"x.png": encoded(level, mode=mode)}, channels=channels).open()
    assert source.read([0]).images[0, :, 4, 4].tolist() == expected


@pytest.mark.parametrize(
    "changed",
    [
        {"a.bmp": encoded(1, kind="bmp")},
        {"a.bmp": encoded(kind="bmp"), "b.png": encoded()},
        {"c.bmp": encoded(kind="bmp")},
    ],
    ids=["pixels", "count", "name"],
)
def test_the_digest_changes_with_the_data(store, changed):
    """Other pixels (even of the same size in bytes), another image or name give another digest; the same, the same."""
    files = {"a.bmp": encoded(kind="bmp")}
    assert len(changed.get("a.bmp", files["a.bmp"])) == len(files["a.bmp"])
    digest = store(files).open().digest
    assert store({**files, "notes.txt": b"hello"}).open().digest == digest
    assert store(changed).open().digest != digest


@pytest.mark.parametrize("spec", [Folder, Zip])
def test_missing_images_are_told(tmp_path, spec):
    """A path that is not there, or is of the other sort, names itself and the key to set."""
    other = tmp_path / "other"
    other.mkdir() if spec is Zip else other.write_bytes(b"x")
    for path in (tmp_path / "none", other):
        with pytest.raises(DataError, match=rf"there is no (folder|file) {path}: set data\.path"):
            spec(path=path).open()


def test_no_images_are_told(store):
    """A place without images says which endings count."""
    with pytest.raises(DataError, match=r"holds no images \(\.bmp, \.jpeg, \.jpg, \.png, \.webp\)"):
        store({"notes.txt": b"hello"}).open()


@pytest.mark.parametrize("kind", ["png", "jpeg", "bmp", "webp"])
def test_a_damaged_image_is_told_with_its_file(store, kind):
    """However much of a file is missing, the error names it, and never is a part of an image taken for the whole."""
    whole = noisy(kind)
    names = {length: f"{length:04}.{kind}" for length in range(0, len(whole) - 1, 1 + len(whole) // 40)}
    source = store({name: whole[:length] for length, name in names.items()} | {f"whole.{kind}": whole}).open()
    expected = source.read([len(names)]).images
    for index, name in enumerate(names.values()):
        got = outcome(lambda index=index: source.read([index]).images)
        assert f"{name} " in str(got) if isinstance(got, DataError) else torch.equal(got, expected), name


@pytest.mark.parametrize("size", [(8, 9), (9, 8), (16, 16)])
def test_an_image_of_another_size_is_told_with_its_file(store, size):
    """Images are never resized in silence: the error names the file, its size, and what to do."""
    source = store({"a.png": encoded(), "sub/odd.png": encoded(size=size)}).open()
    width, height = size
    with pytest.raises(DataError, match=rf"sub/odd\.png.* has {height}x{width} pixels, .*data\.size is 8: resize"):
        source.read([0, 1])


def test_an_image_that_vanishes_is_told(tmp_path):
    """A file deleted after opening is named."""
    (tmp_path / "a.png").write_bytes(encoded())
    source = Folder(path=tmp_path, size=8).open()
    (tmp_path / "a.png").unlink()
    with pytest.raises(DataError, match=r"the image .*a\.png cannot be read: No such file"):
        source.read([0])


# --- zip --------------------------------------------------------------------------------------------------------------


def test_labels_come_from_dataset_json(zipped):
    """Classes are matched by name, in the order of the images, whatever the order of the listing."""
    listing = {"labels": [["b/1.png", 7], ["a.png", 3], ["not-there.png", 1]]}
    source = zipped(["b/1.png", "a.png"], listing).open()
    assert source.labels == [3, 7]
    assert source.read([0, 1]).images[:, 0, 0, 0].tolist() == [1, 0]


@pytest.mark.parametrize("listing", [None, {}, {"labels": None}, {"labels": []}])
def test_no_labels_are_none(zipped, listing):
    """A zip file without classes, as EDM writes for unconditional data, has none."""
    assert zipped(["a.png"], listing).open().labels is None


def test_the_digest_changes_with_the_labels(zipped):
    """Classes are data, too."""
    digests = {zipped(["a.png"], {"labels": [["a.png", label]]}).open().digest for label in (0, 0, 1)}
    assert len(digests) == 2


@pytest.mark.parametrize(
    "listing",
    ["{", "[]", "3", '{"labels": 3}', '{"labels": [1]}', '{"labels": [["a.png"]]}', '{"labels": [[[], 1]]}'],
)
def test_a_bad_dataset_json_is_told(zipped, listing):
    """What is no list of names and classes is refused with the layout that is expected."""
    expected = r'dataset\.json in .*images\.zip is not \{"labels": \[\[name, class\], \.\.\.\]\}'
    with pytest.raises(DataError, match=expected):
        zipped(["a.png"], listing).open()


@pytest.mark.parametrize("label", ["x", "1", 1.7, 1.0, None, True, [0, 1]])
def test_a_class_is_a_whole_number(zipped, label):
    """A class of another type is refused, with its image, rather than rounded."""
    with pytest.raises(DataError, match=r"the class of a\.png in dataset\.json of .*images\.zip is no whole number"):
        zipped(["a.png"], {"labels": [["a.png", label]]}).open()


@pytest.mark.parametrize(("names", "told"), [("ab", r"a\.png$"), ("abc", r"a\.png and 1 more$")])
def test_a_missing_label_is_told(zipped, names, told):
    """Every image needs a class, or none has one."""
    listing = {"labels": [[f"{names[-1]}.png", 0]]}
    with pytest.raises(DataError, match=rf"dataset\.json in .*images\.zip has no label for {told}"):
        zipped([f"{name}.png" for name in names], listing).open()


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_a_corrupt_zip_file_is_told(zipped, method):
    """Wherever a byte is wrong, the file is refused with a `DataError` that names it, or gives the right images."""
    spec = zipped(["a.png"], {"labels": [["a.png", 1]]}, method=method)
    whole = spec.path.read_bytes()
    expected, failures = spec.open().read([0]).images, 0
    for place in range(0, len(whole), 3):
        spec.path.write_bytes(whole[:place] + bytes([whole[place] ^ 0xFF]) + whole[place + 1 :])
        got = outcome(lambda: spec.open().read([0]).images)
        failures += isinstance(got, DataError)
        assert "images.zip" in str(got) if isinstance(got, DataError) else torch.equal(got, expected), place
    assert failures > 20


@pytest.mark.parametrize("content", [b"", b"no zip file"])
def test_what_is_no_zip_file_is_told(tmp_path, content):
    """The error names the file."""
    (tmp_path / "x.zip").write_bytes(content)
    with pytest.raises(DataError, match=r"x\.zip is not a readable zip file"):
        Zip(path=tmp_path / "x.zip").open()


@pytest.mark.golden
def test_cifar10_is_read_as_published(outside_data):
    """The outside test set has 10,000 colour images, 1,000 of each class, sorted by class, and the stated moments."""
    source = Zip(path=outside_data / "data" / "cifar10-test-jpeg.zip", size=32).open()
    images = source.read(range(0, 10_000, 10)).images
    assert (len(source), images.shape) == (10_000, (1000, 3, 32, 32))
    assert source.labels == [label for label in range(10) for _ in range(1000)]
    pixels = images.double() / 255
    assert float(pixels.mean()) == pytest.approx(0.4733, abs=0.01)
    assert float(pixels.std()) == pytest.approx(0.2504, abs=0.01)


@pytest.fixture
def shards(tmp_path):
    """Three shards with 3, 1 and 5 images of one level each, 0, 1, 2, ..., and the folder that they lie in."""
    folder, level = tmp_path / "shards", 0
    folder.mkdir()
    for number, count in enumerate((3, 1, 5)):
        with zipfile.ZipFile(folder / f"part{number}.zip", "w") as archive:
            names = [f"{index}.png" for index in range(count)]
            for name in names:
                archive.writestr(name, encoded((level, level, level)))
                level += 1
            archive.writestr("dataset.json", json.dumps({"labels": [[name, number] for name in names]}))
    (folder / "notes.txt").write_text("no shard")
    return folder


@pytest.mark.parametrize("indices", [range(9), (8, 0, 3, 3, 5), (4,)])
def test_shards_are_read_as_one(shards, indices):
    """Images keep the order that is asked for, across shards; classes follow."""
    source = Shards(path=shards, size=8).open()
    assert (len(source), source.labels) == (9, [0, 0, 0, 1, 2, 2, 2, 2, 2])
    assert source.read(indices).images[:, 0, 0, 0].tolist() == list(indices)


def test_shards_change_the_digest_and_need_all_labels(shards):
    """One more shard is other data; without classes in one of them there are none."""
    before = Shards(path=shards, size=8).open().digest
    with zipfile.ZipFile(shards / "part3.zip", "w") as archive:
        archive.writestr("a.png", encoded())
    after = Shards(path=shards, size=8).open()
    assert after.digest != before
    assert after.labels is None


def test_a_folder_without_shards_is_told(tmp_path):
    """What is missing is named."""
    with pytest.raises(DataError, match=r"there is no folder .*none: set data\.path"):
        Shards(path=tmp_path / "none").open()
    with pytest.raises(DataError, match=r"holds no \.zip and no \.tar, which shards are"):
        Shards(path=tmp_path).open()
