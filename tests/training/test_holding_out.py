"""Promises of held-out images: which they are follows from what they show, they never train, and looks repeat."""

import hashlib
import itertools
import json
import math
import zipfile

import numpy as np
import pytest
import torch
from parity import STILL
from PIL import Image
from processes import processes

import msdk
from msdk.datasets.base import Source
from msdk.datasets.digits import Digits
from msdk.distributed import this_rank, together
from msdk.errors import DataError, RecipeError
from msdk.runs import latest, load_checkpoint
from msdk.training import holding_out, loop
from msdk.training.drawing import Feed
from msdk.training.holding_out import hold_out
from msdk.training.loop import Trainer
from recipes import latent, tiny

WATCHED = ("data.held_out=0.1", "training.validate_every=2", "training.validate_images=24")


class Pixels(Source):
    """Images in memory."""

    labels = None

    def __init__(self, images):
        self.images, self.digest = images, hashlib.sha256(images.numpy().tobytes()).hexdigest()

    def __len__(self):
        return len(self.images)

    def read(self, indices):
        return self.images[list(indices)]


def noise(count, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (count, 1, 8, 8), dtype=torch.uint8, generator=generator)


def test_which_digits_are_held_out():
    """Those whose 64 bits of BLAKE2b are below the share: a fact that no later version may change."""
    source = Digits().open()
    split = hold_out(source, 0.1)
    pixels = source.batch(range(len(source))).images.numpy()
    hashes = [int.from_bytes(hashlib.blake2b(image.tobytes(), digest_size=8).digest()) for image in pixels]
    below = [index for index, each in enumerate(hashes) if each < int(0.1 * 2**64)]
    assert sorted(split.held) == below
    assert [hashes[index] for index in split.held] == sorted(hashes[index] for index in below) == list(split.hashes)
    assert sorted([*split.trained, *split.held]) == list(range(1797))
    assert (len(split.held), split.held[:4]) == (DIGITS, FIRST)


DIGITS, FIRST = 160, [1139, 540, 1404, 518]


def test_the_share_goes_by_content():
    """Not by order; more images move none; copies stay together; a larger share holds out more; about as many as it."""
    images = noise(600)
    held = {images[index].numpy().tobytes() for index in hold_out(Pixels(images), 0.2).held}
    order = torch.randperm(600, generator=torch.Generator().manual_seed(1))
    more = torch.cat([images[order], images[:50], noise(100, seed=2)])
    again = hold_out(Pixels(more), 0.2)
    shown = {more[index].numpy().tobytes() for index in again.held}
    assert held <= shown
    assert not held & {more[index].numpy().tobytes() for index in again.trained}
    assert set(again.held) < set(hold_out(Pixels(more), 0.3).held)
    assert len(held) == pytest.approx(120, abs=4 * math.sqrt(600 * 0.2 * 0.8))


def test_files_are_hashed_as_they_are_and_once(tmp_path, monkeypatch):
    """A zip and a folder of the same files hold out the same ones; the next run reads no image for it."""
    monkeypatch.setenv("MSDK_CACHE", str(tmp_path / "cache"))
    folder = tmp_path / "folder"
    folder.mkdir()
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        for index, image in enumerate(noise(40)):
            Image.fromarray(image[0].numpy()).save(folder / f"{index:03}.png")
            archive.write(folder / f"{index:03}.png", f"{(index * 7) % 40:03}.png")

    def names(kind, path):
        source = tiny(f'data={{name="{kind}", path="{path}", size=8, channels=1}}').data.open()
        return {source.content(index, 2**20) for index in hold_out(source, 0.3).held}

    found = names("folder", folder)
    assert 3 <= len(found) <= 25
    assert names("zip", tmp_path / "a.zip") == found
    monkeypatch.setattr(holding_out, "_contents", lambda *_: pytest.fail("images are read again"))
    assert names("zip", tmp_path / "a.zip") == found


def test_shares_that_leave_nothing_are_refused():
    """In words; so is looking at images that nobody holds out."""
    with pytest.raises(DataError, match=r"data\.held_out is 0\.001, which holds out no image of 10: raise it"):
        hold_out(Pixels(noise(10)), 0.001)
    with pytest.raises(DataError, match=r"holds out every image of 1: lower it"):
        hold_out(Pixels(torch.zeros(1, 1, 8, 8, dtype=torch.uint8)), 0.999999)
    with pytest.raises(RecipeError, match=r"training\.validate_every +looks at held-out images, and there are none"):
        tiny("training.validate_every=2")
    with pytest.raises(RecipeError, match=r"data\.held_out"):
        tiny("data.held_out=1.0")


def test_held_out_images_never_train():
    """Through whole epochs of one process and of two, which between them read every other image."""
    for rank in (loop.Group().rank, loop.Group().rank.__class__(1, 2, 1)):
        recipe = tiny("data.held_out=0.5", "training.batch_size=128")
        feed = Feed(recipe, msdk.build(recipe, "meta"), recipe.data.open(), rank)
        read = set(itertools.chain(*(feed._indices(step) for step in range(16))))
        assert not read & set(feed.split.held)
        assert rank.count > 1 or read == set(feed.split.trained)


def losses(recipe, folder, steps=2):
    """In this process, in float64, after some steps."""
    build, objective_of = loop.build, msdk.training.step.objective_of
    loop.build = lambda *given: build(*given).double()
    try:
        with together(this_rank()) as group:
            trainer = Trainer(recipe, folder, recipe.data.open(), [], "cpu", group)
            fed = trainer.feed.__class__.__call__

            def doubled(iteration):
                work = fed(trainer.feed, iteration)
                batch = work.batch._replace(images=work.batch.images.double())
                return work._replace(batch=batch)

            for iteration in range(steps):
                work = doubled(iteration)
                trainer.step(work.batch, work.draw, iteration, work.hand)
            return trainer.watch.look(0, [0, 0, 0])["held_out_loss_by_stage"]
    finally:
        loop.build, msdk.training.step.objective_of = build, objective_of


def test_looks_do_not_depend_on_batches_and_processes(tmp_path):
    """In float64 to 1e-9, of an uneven number of images; by averages, which shards have rows of."""
    options = (STILL, *WATCHED, "training.validate_images=37", "training.parallel=fsdp")
    recipe = tiny(*options)
    one = losses(recipe, tmp_path)
    assert all(value > 0 for value in one)
    for found in processes(2, lambda: losses(recipe, tmp_path), tmp_path):
        assert found == pytest.approx(one, rel=1e-9)
    wide = tiny(*options, "training.batch_size=32")
    assert losses(wide, tmp_path, steps=0) == pytest.approx(losses(recipe, tmp_path, steps=0), rel=1e-9)


def test_a_look_is_a_mean_over_what_training_draws(tmp_path):
    """At spread times it is what many random draws find, in every stage, and of all together by natural shares."""
    recipe = tiny("data.held_out=0.1", "training.validate_every=2", "training.validate_weights=raw")
    trainer = Trainer(recipe, tmp_path, recipe.data.open(), [], "cpu")
    found = trainer.watch.look(0, [0, 0, 0])
    assert found["held_out_loss"] == pytest.approx(
        math.fsum(a * b for a, b in zip(recipe.natural_shares(), found["held_out_loss_by_stage"], strict=True))
    )
    feed, step = trainer.feed, trainer.step
    step.trained.eval()
    sums, counts = torch.zeros(3, dtype=torch.float64), torch.zeros(3, dtype=torch.int64)
    images = feed.source.batch(feed.split.held).images
    with torch.no_grad():
        for seed in range(12):
            torch.manual_seed(seed)
            clean = msdk.batch.Batch(images.float() / 127.5 - 1)
            stages, times = msdk.training.drawing.draw_times(
                recipe, step.denoiser, len(images), torch.Generator().manual_seed(seed)
            )
            weights = recipe.weighting.weight(step.denoiser.schedule, times)
            draw = msdk.objectives.base.Draw(stages, times, weights, torch.randn(clean.images.shape))
            sums.index_add_(0, stages, step.trained(clean, draw, step.denoiser).double())
            counts += torch.bincount(stages, minlength=3)
    assert found["held_out_loss_by_stage"] == pytest.approx((sums / counts).tolist(), rel=0.03)


def test_looking_changes_nothing_and_is_told(tmp_path):
    """Weights, averages and lines are those of a run that nobody looks at; after a stop, looks are told once."""
    recipe = tiny(STILL, *WATCHED, "training.log_every=1", "training.iterations=4")
    plain = tiny(STILL, WATCHED[0], "training.log_every=1", "training.iterations=4")
    msdk.train(recipe, tmp_path / "watched", device="cpu")
    msdk.train(plain, tmp_path / "plain", device="cpu")
    one, other = (load_checkpoint(latest(tmp_path / name)) for name in ("watched", "plain"))
    for part in ("model", "ema", "optimizer"):
        ours, theirs = getattr(one, part), getattr(other, part)
        assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    lines = [json.loads(line) for line in (tmp_path / "watched/metrics.jsonl").read_text().splitlines()]
    plainly = [json.loads(line) for line in (tmp_path / "plain/metrics.jsonl").read_text().splitlines()]
    assert [line["loss_by_stage"] for line in lines] == [line["loss_by_stage"] for line in plainly]
    assert [line["iteration"] for line in lines if "held_out_loss" in line] == [2, 4]
    held = lines[-1]["held_out_images_by_stage"]
    assert held == [2 * 24] * 3
    ledger = json.loads((tmp_path / "watched/ledger.json").read_text())
    assert ledger["validation"]["images_by_stage"] == held
    price = [2 * macs * images for macs, images in zip(ledger["macs_per_image_by_stage"], held, strict=True)]
    assert ledger["validation"]["flops_by_stage"] == price
    assert ledger["total_flops"] == json.loads((tmp_path / "plain/ledger.json").read_text())["total_flops"]


def test_averages_and_last_weights_are_looked_at(tmp_path):
    """As the recipe says; the averages of a fresh run are its weights, those after large steps are not."""
    options = (*WATCHED, "training.lr=0.05", "training.warmup=0", "training.ema_decay=0.9")
    found = {}
    for which in ("ema", "raw"):
        msdk.train(tiny(*options, f"training.validate_weights={which}"), tmp_path / which, device="cpu")
        lines = (tmp_path / which / "metrics.jsonl").read_text().splitlines()
        found[which] = json.loads(lines[-1])["held_out_loss"]
        recipe = tiny(*options, f"training.validate_weights={which}")
        trainer = Trainer(recipe, tmp_path, recipe.data.open(), [], "cpu")
        weights = getattr(load_checkpoint(latest(tmp_path / which)), "ema" if which == "ema" else "model")
        trainer.step.denoiser.network.load_state_dict(weights)
        trainer.step.emas = []
        assert trainer.watch.look(0, [0, 0, 0])["held_out_loss"] == pytest.approx(found[which], rel=1e-6)
    assert found["ema"] != pytest.approx(found["raw"], rel=1e-3)


def test_latents_and_labels_are_looked_at(tmp_path):
    """Held-out images are encoded, and classes of a conditional model are told."""
    recipe = latent(tmp_path, *WATCHED, "encoder.classes=10", "training.iterations=2", "training.label_dropout=0.5")
    msdk.train(recipe, tmp_path / "run", device="cpu")
    line = json.loads((tmp_path / "run/metrics.jsonl").read_text().splitlines()[-1])
    assert np.isfinite(line["held_out_loss_by_stage"]).all()
