"""Promises of `msdk data prepare`: each archive in its own layout, the originals' arithmetic, the same bytes always."""

import io
import json
import os
import pickle
import signal
import subprocess
import sys
import tarfile
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest
from commands import quick
from PIL import Image

from msdk.datasets.shards import Shards
from msdk.datasets.tar import Tar
from msdk.datasets.zip import Zip
from msdk.errors import DataError, RunError
from msdk.preparing import ARCHIVES, CROPS, making, prepare
from msdk.training import train
from recipes import tiny

RANDOM = np.random.default_rng(0)
NAMES = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]


def noise(height, width, channels=3):
    return RANDOM.integers(0, 256, (height, width, channels), dtype=np.uint8)


def file(pixels, kind="png"):
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind)
    return buffer.getvalue()


def tarred(path, files, mode="w"):
    with tarfile.open(path, mode) as tar:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
    return path


def cifar(folder, version, count=3):
    """CIFAR-10's archive in either version, with a few images a batch; the pixels and labels of its training images."""
    pixels, labels = noise(count * 5, 32, 3 * 32).reshape(-1, 3 * 32 * 32), RANDOM.integers(0, 10, count * 5).tolist()
    files = {}
    for batch in range(5):
        rows = slice(batch * count, (batch + 1) * count)
        if version == "binary":
            files[f"cifar-10-batches-bin/data_batch_{batch + 1}.bin"] = b"".join(
                bytes([label]) + row.tobytes() for label, row in zip(labels[rows], pixels[rows], strict=True)
            )
        else:
            content = {b"data": pixels[rows], b"labels": labels[rows], b"batch_label": b"training"}
            files[f"cifar-10-batches-py/data_batch_{batch + 1}"] = pickle.dumps(content, protocol=int(version))
    test = bytes([9]) + bytes(3072)
    if version == "binary":
        files["cifar-10-batches-bin/test_batch.bin"] = test
        files["cifar-10-batches-bin/batches.meta.txt"] = "\n".join(NAMES).encode() + b"\n\n"
    else:
        content = {b"data": np.zeros((1, 3072), np.uint8), b"labels": [9]}
        files["cifar-10-batches-py/test_batch"] = pickle.dumps(content, protocol=int(version))
        meta = {b"label_names": [name.encode() for name in NAMES]}
        files["cifar-10-batches-py/batches.meta"] = pickle.dumps(meta, protocol=int(version))
    path = folder / "cifar-10.tar.gz"
    tarred(path, files, "w:gz")
    return path, pixels.reshape(-1, 3, 32, 32), labels


@pytest.mark.parametrize("version", ["binary", "2", "4", "5"])
def test_cifar10_in_its_own_archives(tmp_path, version):
    """Images, classes and their names are those of the batches, in their order, packed or unpacked."""
    path, pixels, labels = cifar(tmp_path, version)
    made = prepare("cifar10", path, tmp_path / "made.zip")
    assert (made.images, made.protocol, made.jpeg) == (15, "cifar10:as-is", 0)
    source = Zip(path=made.path, size=32, protocol="cifar10:as-is", sha256=made.sha256).open()
    assert np.array_equal(source.batch(range(15)).images.numpy(), pixels)
    assert list(source.labels) == labels
    assert list(source.class_names) == NAMES
    with tarfile.open(path) as tar:
        filters = {"filter": "data"} if hasattr(tarfile, "data_filter") else {}  # Python 3.11.4 has them
        tar.extractall(tmp_path / "unpacked", **filters)
    unpacked = prepare("cifar10", tmp_path / "unpacked", tmp_path / "unpacked.zip")
    assert unpacked.sha256 == made.sha256
    assert prepare("cifar10", path, tmp_path / "test.zip", split="test").images == 1


def test_the_pickle_of_a_stranger_runs_nothing(tmp_path):
    """Whatever a batch names is left alone, and it is refused in words."""

    class Evil:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "ran"),)

    for content in (Evil(), {b"data": Evil(), b"labels": [1]}, {b"data": np.zeros(3072), b"labels": [1]}, [], {1: 2}):
        tarred(tmp_path / "evil.tar", {"data_batch_1": pickle.dumps(content, protocol=2)})
        with pytest.raises(DataError, match="is not a batch of CIFAR-10"):
            prepare("cifar10", tmp_path / "evil.tar", tmp_path / "made.zip")
    assert not (tmp_path / "ran").exists()
    assert not (tmp_path / "made.zip").exists()


def test_cifar10_averaged(tmp_path):
    """Each pixel of 16x16 is the mean of four, rounded once; a .zip of the images is as good as their archive."""
    path, pixels, labels = cifar(tmp_path, "binary")
    small = prepare("cifar10", path, tmp_path / "small.zip", size=16)
    assert small.protocol == "cifar10:average"
    source = Zip(path=small.path, size=16, protocol="cifar10:average").open()
    blocks = pixels.astype(float).reshape(-1, 3, 16, 2, 16, 2).mean((3, 5))
    assert np.array_equal(source.batch(range(15)).images.numpy(), np.rint(blocks))
    whole = prepare("cifar10", path, tmp_path / "whole.zip")
    again = prepare("cifar10", whole.path, tmp_path / "again.zip", size=16)
    assert again.sha256 == small.sha256
    assert list(Zip(path=again.path, size=16).open().labels) == labels
    with pytest.raises(DataError, match="no square blocks of 15x15"):
        prepare("cifar10", path, tmp_path / "odd.zip", size=15)


@pytest.mark.parametrize("archive", ARCHIVES)
def test_missing_data_say_how_they_are_made(archive, tmp_path):
    """The message of a recipe that names its protocol names the archive that `data prepare` knows, with its size."""
    known = ARCHIVES[archive]
    size = known.size or 24
    with pytest.raises(DataError, match="make it by") as told:
        Zip(path=tmp_path / "none.zip", size=size, protocol=f"{known.data}:{known.crops[0]}").open()
    assert f"msdk data prepare {archive} ARCHIVE --size {size} " in str(told.value)


@pytest.fixture(scope="module")
def faces(tmp_path_factory):
    """CelebA's layout: a zip of 218x178 JPEG files, and the list of splits beside it."""
    folder = tmp_path_factory.mktemp("celeba")
    with zipfile.ZipFile(folder / "img_align_celeba.zip", "w") as archive:
        for number in range(1, 7):
            archive.writestr(f"img_align_celeba/{number:06d}.jpg", file(noise(218, 178), "jpeg"))
    lines = [f"{number:06d}.jpg {split}\n" for number, split in zip(range(1, 7), (0, 0, 1, 2, 0, 2), strict=True)]
    (folder / "list_eval_partition.txt").write_text("".join(lines))
    return folder / "img_align_celeba.zip"


def test_celeba_with_its_splits(faces, tmp_path, capsys, monkeypatch):
    """The list says what is for training; that JPEG files were the source is counted, and told by name."""
    counts = {"train": 3, "valid": 1, "test": 2, "all": 6}
    for split, count in counts.items():
        made = prepare("celeba32", faces, tmp_path / f"{split}.zip", split=split)
        assert (made.images, made.jpeg, made.size, made.protocol) == (count, count, 32, "celeba:crop140")
    code, out, err = quick(capsys, monkeypatch, "data", "prepare", "celeba64", faces, "--out", tmp_path / "told.zip")
    assert code == 0
    assert "3 of the pictures were JPEG" in err
    assert 'protocol = "celeba:crop140"' in out
    with pytest.raises(DataError, match="no split named 'dev'"):
        prepare("celeba32", faces, tmp_path / "dev.zip", split="dev")


def test_imagenet_in_tars_and_folders(tmp_path):
    """A tar of tars, a folder of tars, and folders of classes give the same images and classes."""
    images = {
        wnid: {f"{wnid}_{index}.JPEG": file(noise(80, 100), "jpeg") for index in range(2)} for wnid in ("n02", "n01")
    }
    (tmp_path / "tars").mkdir()
    for wnid, files in images.items():
        tarred(tmp_path / "tars" / f"{wnid}.tar", files)
        (tmp_path / "folders" / wnid).mkdir(parents=True)
        for name, content in files.items():
            (tmp_path / "folders" / wnid / name.replace("JPEG", "jpeg")).write_bytes(content)
    outer = {f"{wnid}.tar": (tmp_path / "tars" / f"{wnid}.tar").read_bytes() for wnid in images}
    tarred(tmp_path / "train.tar", outer)
    made = {
        each.name: prepare("imagenet64", each, tmp_path / f"{each.name}.zip")
        for each in (tmp_path / "tars", tmp_path / "folders", tmp_path / "train.tar")
    }
    found = [Zip(path=each.path, size=64).open() for each in made.values()]
    assert all(list(each.labels) == [0, 0, 1, 1] and list(each.class_names) == ["n01", "n02"] for each in found)
    assert len({each.batch(range(4)).images.numpy().tobytes() for each in found}) == 1


@pytest.mark.parametrize(
    ("crop", "height", "width", "corner", "side"),
    [
        ("crop140", 218, 178, (39, 19), 140),
        ("crop128", 218, 178, (57, 25), 128),
        ("crop108", 218, 178, (55, 35), 108),
        ("center-crop", 101, 64, (18, 0), 64),
        ("center-crop", 64, 101, (0, 18), 64),
        ("dhariwal", 64, 101, (0, 18), 64),
        ("dhariwal", 128, 64, (32, 0), 64),
    ],
)
def test_crops_cut_where_the_originals_do(crop, height, width, corner, side):
    """The square that is left, at its own size: no filter changes it, so every pixel shows where the cut was."""
    pixels = noise(height, width)
    found = np.asarray(CROPS[crop](Image.fromarray(pixels), side, "a"))
    assert np.array_equal(found, pixels[corner[0] : corner[0] + side, corner[1] : corner[1] + side])


def triangle(levels, size):
    """A triangle filter as wide as a step, in double precision: bilinear with antialiasing, along both axes."""
    matrix = np.zeros((size, len(levels)))
    scale = len(levels) / size
    for row in range(size):
        centre = (row + 0.5) * scale
        matrix[row] = np.maximum(0, 1 - np.abs((np.arange(len(levels)) + 0.5 - centre) / max(scale, 1)))
        matrix[row] /= matrix[row].sum()
    return np.einsum("ij,jkc,lk->ilc", matrix, levels.astype(float), matrix)


@pytest.mark.parametrize(
    ("crop", "corner", "side", "within"),
    [("crop140", (39, 19), 140, 0.501), ("crop128", (57, 25), 128, 1.51), ("crop108", (55, 35), 108, 1.51)],
)
def test_faces_are_shrunk_by_a_triangle(crop, corner, side, within):
    """score_sde's filter is rounded once; DDIM's and DCGAN's are Pillow's, which round after each axis."""
    pixels = noise(218, 178)
    found = np.asarray(CROPS[crop](Image.fromarray(pixels), 64, "a")).astype(float)
    wanted = triangle(pixels[corner[0] : corner[0] + side, corner[1] : corner[1] + side], 64)
    assert np.abs(found - wanted).max() <= within


def halved(pixels):
    """Means of two columns, then of two rows, rounded each time."""
    columns = np.floor(pixels.reshape(len(pixels), -1, 2, 3).mean(2) + 0.5)
    return np.floor(columns.reshape(-1, 2, columns.shape[1], 3).mean(1) + 0.5)


def test_dhariwal_halves_by_boxes_first():
    """A picture four times as large is halved twice, before the bicubic filter, which then does nothing."""
    pixels = noise(128, 128)
    found = np.asarray(CROPS["dhariwal"](Image.fromarray(pixels), 32, "a"))
    assert np.array_equal(found, halved(halved(pixels)))


@pytest.mark.parametrize("crop", sorted(CROPS))
def test_crops_give_squares(crop):
    """Of a grey picture as of a coloured one; a picture that is too small, or is to stay as it is, is told by name."""
    small = ("as-is", "average", "crop140", "crop128", "crop108")
    for shape in ((218, 178), (64, 64, 3)):
        image = Image.fromarray(RANDOM.integers(0, 256, shape, dtype=np.uint8))
        if (crop in small[:2] and len(shape) == 2) or (crop in small[2:] and len(shape) == 3):
            with pytest.raises(DataError, match=r"a\.png has \d+x\d+ pixels"):
                CROPS[crop](image, 64, "a.png")
        else:
            found = CROPS[crop](image, 64, "a.png")
            assert (found.size, found.mode) == ((64, 64), image.mode)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """A folder of two classes with 90 images."""
    folder = tmp_path_factory.mktemp("pictures")
    for index in range(90):
        name = folder / ("cats" if index % 3 else "dogs") / f"{index:03d}.png"
        name.parent.mkdir(exist_ok=True)
        name.write_bytes(file(noise(20, 24)))
    return folder


@pytest.mark.parametrize("ending", ["zip", "tar"])
@pytest.mark.parametrize("format", ["png", "raw"])
def test_workers_and_interruptions_change_no_byte(pictures, tmp_path, monkeypatch, ending, format):
    """One worker, four, and a call that goes on from what an interrupted one had made."""
    monkeypatch.setattr(making, "AT_ONCE", 20)

    def made(name, **settings):
        found = prepare("folder", pictures, tmp_path / f"{name}.{ending}", size=16, format=format, **settings)
        return found, found.path.read_bytes()

    one, content = made("one", workers=1)
    assert made("four", workers=4)[1] == content

    class StopError(Exception):
        pass

    def stop(done, total):
        if done >= 60:
            raise StopError

    monkeypatch.setattr(making, "AT_ONCE", 20)
    with pytest.raises(StopError):
        made("stopped", progress=lambda done, total: stop(len(list(tmp_path.glob(".stopped*/0*.zip"))) * 20, total))
    gone_on, same = made("stopped")
    assert same == content
    assert 0 < gone_on.kept < 90
    assert not list(tmp_path.glob(".*"))
    reader = {"zip": Zip, "tar": Tar}[ending](path=one.path, size=16, protocol="folder:center-crop").open()
    assert list(reader.class_names) == ["cats", "dogs"]
    assert reader.labels.count(1) == 30
    wanted = np.asarray(CROPS["center-crop"](Image.open(sorted(pictures.glob("cats/*"))[0]), 16, ""))
    assert np.array_equal(reader.batch([0]).images[0].permute(1, 2, 0).numpy(), wanted)


def test_a_killed_call_is_gone_on_with(pictures, tmp_path):
    """SIGKILL in the middle: the same command makes the file of a call that was left alone."""
    program = (
        "import time, sys; from msdk.preparing import making, prepare; making.AT_ONCE = 10\n"
        "pause = lambda done, total: time.sleep(float(sys.argv[3]))\n"
        "prepare('folder', sys.argv[1], sys.argv[2], size=16, progress=pause)"
    )

    def run(name, pause):
        return subprocess.Popen([sys.executable, "-c", program, str(pictures), str(tmp_path / name), str(pause)])

    slow = run("killed.zip", 0.3)
    for _ in range(600):
        if len(list(tmp_path.glob(".killed.zip.parts/0*.zip"))) >= 1 or slow.poll() is not None:
            break
        time.sleep(0.05)
    slow.send_signal(signal.SIGKILL)
    slow.wait()
    assert not (tmp_path / "killed.zip").exists()
    assert run("killed.zip", 0).wait() == 0
    assert run("whole.zip", 0).wait() == 0
    assert (tmp_path / "killed.zip").read_bytes() == (tmp_path / "whole.zip").read_bytes()
    assert not list(tmp_path.glob(".killed*"))


def test_nothing_that_exists_is_lost(pictures, tmp_path):
    """What is there is replaced only if that is said, and stays where the new one cannot be made."""
    out = tmp_path / "made.zip"
    prepare("folder", pictures, out, size=8)
    content = out.read_bytes()
    with pytest.raises(RunError, match="exists: give another name, or --force"):
        prepare("folder", pictures, out, size=16)
    with pytest.raises(DataError, match="not 16x16: choose a protocol"):
        prepare("folder", pictures, out, size=16, protocol="as-is", force=True)
    assert out.read_bytes() == content
    assert prepare("folder", pictures, out, size=16, force=True).size == 16


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("cifar", "X", "--out", "a.zip"), "no archive named 'cifar'. Did you mean 'cifar10'?"),
        (("folder", "X", "--out", "a.zip"), "say what side the images are to have (--size)"),
        (("folder", "X", "--out", "a.npz", "--size", "8"), "must end in .zip, or in .tar"),
        (("celeba64", "X", "--out", "a.zip", "--protocol", "crop14"), "no protocol named 'crop14'. Did you mean"),
        (("celeba64", "X", "--out", "a.zip", "--protocol", "ffhq:crop140"), "no protocol named 'ffhq:crop140'"),
        (("celeba64", "X", "--out", "a.zip"), "does not exist"),
        (("cifar10", "tests", "--out", "a.zip"), "has no train batches of CIFAR-10"),
        (("folder", "X", "--out", "a.zip", "--size", "0"), "size"),
        (("folder", "X", "--out", "a.zip", "--size", "8", "--workers", "0"), "workers"),
    ],
)
def test_mistakes_are_told(tmp_path, capsys, monkeypatch, arguments, told):
    """Exit code 2 and a sentence."""
    words = ("data", "prepare", *arguments[:3], tmp_path / arguments[3], *arguments[4:])
    code, _, err = quick(capsys, monkeypatch, *words)
    assert code == 2
    assert told in " ".join(err.split())


def test_a_recipe_holds_to_its_protocol(faces, tmp_path, capsys, monkeypatch):
    """Data made by another protocol, or with another digest, are refused with both named; runs note what they had."""
    made = prepare("celeba32", faces, tmp_path / "faces.zip", protocol="crop128")
    for wrong in ({"protocol": "celeba:crop140"}, {"sha256": "0123456789"}):
        with pytest.raises(DataError, match=r"celeba:crop128|these are other images"):
            Zip(path=made.path, size=32, **wrong).open()
    Zip(path=made.path, size=32, protocol="celeba:crop128", sha256=made.sha256[:16]).open()
    looked = json.loads(quick(capsys, monkeypatch, "data", "info", made.path, "--json")[1])
    assert looked["data"]["protocol"] == "celeba:crop128"
    recipe = tiny(f"data={{name='zip', path='{made.path}', size=32}}", "training.batch_size=2", "training.iterations=1")
    train(recipe, tmp_path / "run")
    lock = json.loads((tmp_path / "run" / "lock.json").read_text())
    assert lock["data"]["protocol"] == "celeba:crop128"


def test_shards_of_tars_are_one_data_set(pictures, tmp_path):
    """In the order of their names, with classes; a damaged or odd tar is told."""
    (tmp_path / "shards").mkdir()
    for name in ("b.tar", "a.tar"):
        prepare("folder", pictures, tmp_path / "shards" / name, size=8)
    source = Shards(path=tmp_path / "shards", size=8).open()
    assert (len(source), source.protocol) == (180, "folder:center-crop")
    assert source.labels.count(1) == 60
    content = (tmp_path / "shards" / "a.tar").read_bytes()
    (tmp_path / "cut.tar").write_bytes(content[: len(content) // 2])
    with pytest.raises(DataError, match=r"cut\.tar"):
        Tar(path=tmp_path / "cut.tar", size=8).open().batch(range(90))
    good = {"a.png": file(noise(8, 8)), "a.cls": b"1", "b.png": file(noise(8, 8))}
    for files, told in (
        (good, "has no b.cls"),
        ({"a.png": good["a.png"], "a.cls": b"cat"}, "is no class, a whole number"),
        ({"a.png": good["a.png"], "a.jpg": file(noise(8, 8), "jpeg")}, "two images of one name, a"),
    ):
        with pytest.raises(DataError, match=told):
            Tar(path=tarred(tmp_path / "odd.tar", files), size=8).open()


def test_archives_are_listed_with_their_protocols():
    """Every default protocol exists, and the page of docs names each archive and each crop."""
    page = Path("docs/data.md").read_text(encoding="utf-8")
    for name, archive in ARCHIVES.items():
        assert f"`{name}`" in page
        assert all(f"`{archive.data}:{crop}`" in page for crop in archive.crops)
    assert all(f"`{crop}`" in page for crop in CROPS)
