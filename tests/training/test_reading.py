"""Promises of reading ahead: the same images at every step, in their own time, and nothing left behind."""

import errno
import io
import os
import signal
import threading
import time
import zipfile

import numpy as np
import pytest
import torch
from PIL import Image

import msdk
from msdk.batch import Batch
from msdk.datasets import base
from msdk.datasets.base import Source
from msdk.denoiser.building import build
from msdk.distributed import Rank
from msdk.errors import DataError
from msdk.runs import latest, load_checkpoint
from msdk.training import reading
from msdk.training.drawing import Feed
from recipes import tiny

IMAGES = 13


@pytest.fixture
def zipped(tmp_path, monkeypatch):
    """Settings of a recipe on a zip of a few images, with a cache of its own."""
    monkeypatch.setenv("MSDK_CACHE", str(tmp_path / "cache"))
    path, numbers = tmp_path / "images.zip", np.random.default_rng(0)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for index in range(IMAGES):
            content = io.BytesIO()
            Image.fromarray(numbers.integers(0, 256, (8, 8, 3), np.uint8)).save(content, "PNG")
            file.writestr(f"{index:02}.png", content.getvalue())
        labels = ", ".join(f'["{index:02}.png", {index % 10}]' for index in range(IMAGES))
        file.writestr("dataset.json", f'{{"labels": [{labels}]}}')
    return (f'data={{name="zip", path="{path}", size=8}}', "encoder.classes=10", "training.flip=true")


def fed(recipe, steps, rank=None):
    """What a process is given in some steps."""
    feed = Feed(recipe, build(recipe), recipe.data.open(), rank)
    with feed.reader:
        return [feed(step).batch for step in steps], feed.reader


def same(ours, theirs):
    return all(
        torch.equal(one.images, other.images) and torch.equal(one.condition.label, other.condition.label)
        for one, other in zip(ours, theirs, strict=True)
    )


@pytest.mark.parametrize("rank", [Rank(), Rank(1, 2)])
def test_every_setting_reads_the_same(zipped, rank):
    """Threads and kept images change nothing of what a step is given, from any step on, to any process."""
    plain, _ = fed(tiny(*zipped, "training.workers=0", "training.cache_images=false"), range(4), rank)
    for workers in (0, 1, 3):
        for kept in ("false", "true", "true"):
            recipe = tiny(*zipped, f"training.workers={workers}", f"training.cache_images={kept}")
            found, reader = fed(recipe, range(4), rank)
            assert same(found, plain)
            assert (reader.decoded is None) == (kept == "false")
    assert same(fed(tiny(*zipped, "training.workers=2"), (2, 3), rank)[0], plain[2:])
    assert same(fed(tiny(*zipped, "training.workers=2"), (3, 1), rank)[0], [plain[3], plain[1]])


def test_an_image_is_decoded_once(zipped, monkeypatch):
    """By all epochs, processes and runs on the same data; of what is damaged or cut off, only that is decoded again."""
    decoded, decode = [], base.decode

    def counted(content, name, shape):
        decoded.append(name)
        return decode(content, name, shape)

    monkeypatch.setattr(base, "decode", counted)
    recipe = tiny(*zipped, "training.workers=0")  # 4 steps of 8 images
    plain, reader = fed(recipe, range(4))
    assert len(set(decoded)) == IMAGES
    assert len(decoded) <= IMAGES + 2  # a batch may have the end of one epoch and the beginning of the next
    decoded.clear()
    assert same(fed(recipe, range(4))[0], plain)
    fed(recipe, range(4), Rank(0, 2))
    assert not decoded
    content = bytearray(reader.decoded.path.read_bytes())
    content[50] ^= 1
    reader.decoded.path.write_bytes(content[:-1])
    assert same(fed(recipe, range(4))[0], plain)
    assert len(set(decoded)) == 2


def test_a_full_disk_stops_no_training(zipped, monkeypatch):
    """Where nothing can be kept, images are decoded as if nothing were to be."""

    def full(*_):
        raise OSError(errno.ENOSPC, "no space")

    plain, _ = fed(tiny(*zipped, "training.cache_images=false"), range(4))
    monkeypatch.setattr(os, "pwrite", full)
    assert same(fed(tiny(*zipped), range(4))[0], plain)
    monkeypatch.setattr(os, "utime", full)
    found, reader = fed(tiny(*zipped), range(4))
    assert same(found, plain)
    assert reader.decoded is None


def test_what_does_not_fit_is_not_kept(zipped, monkeypatch, tmp_path):
    """Nor is what is read once, or is no file; and what nobody has opened for a month goes."""
    old = tmp_path / "cache" / "decoded" / "old.pixels"
    old.parent.mkdir(parents=True)
    old.write_bytes(b"")
    os.utime(old, (time.time() - reading.UNUSED - 60,) * 2)
    assert fed(tiny(*zipped), ())[1].decoded is not None
    assert not old.exists()
    assert fed(tiny(*zipped, "training.iterations=1"), ())[1].decoded is None
    assert fed(tiny(), ())[1].decoded is None
    monkeypatch.setattr(reading, "free_memory", lambda: 4 * IMAGES * (192 + 4) - 1)
    assert fed(tiny(*zipped), ())[1].decoded is None


def test_threads_by_default(zipped, monkeypatch):
    """Files are read ahead, and what is in memory is not."""
    monkeypatch.setattr(reading, "cores", lambda: 3)
    assert fed(tiny(*zipped), ())[1].workers == 3
    assert fed(tiny(), ())[1].workers == 0
    assert fed(tiny("training.workers=2"), ())[1].workers == 2


class Slow(Source):
    """Says when it is read, by how many threads at a time."""

    digest, labels = "", None

    def __init__(self, parallel):
        self.parallel, self.reading, self.most, self.begun = parallel, 0, 0, threading.Semaphore(0)

    def __len__(self):
        return 100

    def read(self, indices):
        self.reading += 1
        self.most = max(self.most, self.reading)
        self.begun.release()
        time.sleep(0.05)
        self.reading -= 1
        return Batch(torch.zeros(len(indices), 1, 8, 8, dtype=torch.uint8))


@pytest.mark.parametrize("parallel", [True, False])
def test_the_next_steps_are_read_meanwhile(parallel):
    """As many as there are threads, none beyond the last, and one at a time where a source does not say it can more."""
    source = Slow(parallel)
    feed = Feed(tiny("training.workers=3", "training.iterations=5"), build(tiny()), source)
    with feed.reader:
        feed(0)
        for _ in range(4):  # steps 0 to 3, of which one was asked for
            assert source.begun.acquire(timeout=10)
        for step in range(1, 5):
            feed(step)
    assert (source.most > 1) == parallel
    assert source.begun.acquire(blocking=False)
    assert not source.begun.acquire(blocking=False)


def readers():
    return [each for each in threading.enumerate() if each.name.startswith("msdk-reading")]


def test_a_run_goes_on_with_other_threads(zipped, tmp_path):
    """Stopped by a signal and resumed with other settings, it is the same run, and no thread outlives it."""
    recipe = tiny(*zipped, "training.workers=2")
    told = msdk.train(recipe, tmp_path / "whole").reading
    assert told.startswith("images were read ahead by 2 threads and kept decoded in ")
    assert not msdk.train(tiny("training.iterations=1"), tmp_path / "digits").reading

    def stop(step):
        assert readers()
        if step.iteration == 2:
            os.kill(os.getpid(), signal.SIGTERM)

    assert msdk.train(recipe, tmp_path / "halves", progress=stop).interrupted == signal.SIGTERM
    assert not readers()
    msdk.train(tiny(*zipped, "training.workers=0", "training.cache_images=false"), tmp_path / "halves", resume=True)
    ours, theirs = (load_checkpoint(latest(tmp_path / name)).model for name in ("whole", "halves"))
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


@pytest.mark.parametrize("workers", [0, 2])
def test_a_damaged_image_is_named(zipped, tmp_path, workers):
    """By the message that reading it in line has, at the step that needs it; and no thread is left."""
    path = tmp_path / "images.zip"
    with zipfile.ZipFile(path) as file:
        contents = {name: file.read(name) for name in file.namelist()}
    contents["05.png"] = contents["05.png"][:60]
    with zipfile.ZipFile(path, "w") as file:
        for name, content in contents.items():
            file.writestr(name, content)
    with pytest.raises(DataError, match=r"the image 05\.png in .*images\.zip cannot be read"):
        msdk.train(tiny(*zipped, f"training.workers={workers}"), tmp_path / "run")
    assert not readers()
