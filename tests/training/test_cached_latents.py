"""Promises of latents that were encoded before: training is the run that encodes on its way, or they are refused."""

import json
import shutil

import attrs
import numpy as np
import pytest
import torch
from commands import quick
from PIL import Image
from processes import processes
from safetensors.torch import load_file, save_file

import msdk
from msdk.batch import Encoded
from msdk.datasets.digits import _Digits
from msdk.denoiser.building import build
from msdk.distributed import Rank
from msdk.errors import DataError, PartError, RunError
from msdk.recipe import to_toml
from msdk.runs import latest, load_checkpoint
from msdk.training import encoding
from msdk.training.drawing import Feed
from msdk.training.encoding import encode
from msdk.training.latents import Latents, drawn, open_data, read_notes
from msdk.training.step import encoded
from recipes import latent, tiny


@pytest.fixture(autouse=True)
def few(monkeypatch):
    """The first 200 digits are enough here."""
    made = _Digits.__init__

    def init(self):
        made(self)
        self.labels, self._images = self.labels[:200], self._images[:200]

    monkeypatch.setattr(_Digits, "__init__", init)


KL = '{name="kl", channels=8, channel_mult=[1, 2], blocks=1, z_channels=2, latent_channels=2, groups=4, scale=1.7'


def gaussian(folder, *overrides, sampled=True):
    """The tiny recipe on latents that are drawn from Gaussians, whose deviations are as large as their means."""
    spec = tiny(f"autoencoder={KL}}}").autoencoder
    torch.manual_seed(4)
    net = spec.build((1, 8, 8))
    torch.nn.init.normal_(net.to_latent.weight, std=0.3)
    save_file(net.state_dict(), folder / "kl.safetensors")
    weights = f'weights="{folder / "kl.safetensors"}", sampled={str(sampled).lower()}'
    return tiny(f"autoencoder={KL}, {weights}}}", *overrides)


def cached(recipe, folder):
    """The same recipe on what was encoded before."""
    return attrs.evolve(recipe, training=attrs.evolve(recipe.training, latents=folder))


def weights(run):
    return load_checkpoint(latest(run)).model


@pytest.mark.parametrize(
    ("made", "overrides"),
    [
        (latent, ()),
        (latent, ("training.flip=true", "training.accumulation=2")),
        (gaussian, ("training.flip=true",)),
        (lambda folder, *some: gaussian(folder, *some, sampled=False), ("encoder.classes=10",)),
        (latent, ("training.precision=bf16",)),
        (gaussian, ("data.held_out=0.1", "training.validate_every=2", "training.validate_images=8")),
    ],
    ids=["vq", "mirrored", "sampled", "means", "bf16", "held-out"],
)
def test_it_is_the_run_that_encodes_on_its_way(tmp_path, made, overrides):
    """Up to the rounding of batches of other sizes: means, draws from Gaussians, mirrored images, classes."""
    recipe = made(tmp_path, *overrides)
    encode(recipe, tmp_path / "L", batch_size=100)
    msdk.train(recipe, tmp_path / "there")
    msdk.train(cached(recipe, tmp_path / "L"), tmp_path / "here")
    one, other = weights(tmp_path / "there"), weights(tmp_path / "here")
    for name, value in one.items():
        torch.testing.assert_close(other[name], value, rtol=1e-4, atol=2e-6)
    numbers = [json.loads((tmp_path / each / "lock.json").read_text())["data"] for each in ("there", "here")]
    assert numbers[0] == numbers[1]
    lines = [(tmp_path / each / "metrics.jsonl").read_text().splitlines() for each in ("there", "here")]
    looks = [[found for line in each if (found := json.loads(line).get("held_out_loss"))] for each in lines]
    assert looks[0] == pytest.approx(looks[1], rel=1e-4)
    assert any(looks[0]) == ("data.held_out=0.1" in overrides)
    if any(looks[0]):  # the metric sees the same images, whoever encoded them
        metric = msdk.metrics.get("denoising-loss")(images=8)
        judged = [msdk.evaluate(tmp_path / each, metrics=[metric])["denoising-loss"] for each in ("there", "here")]
        assert judged == pytest.approx([look[-1] for look in looks], rel=1e-4)


def test_no_step_encodes(tmp_path, monkeypatch):
    """The autoencoder runs nowhere in training."""
    recipe = gaussian(tmp_path)
    encode(recipe, tmp_path / "L")
    for name in ("msdk.training.step.moments_of", "msdk.denoiser.Denoiser.encode"):
        monkeypatch.setattr(name, None)
    msdk.train(cached(recipe, tmp_path / "L"), tmp_path / "run")


def test_latents_are_drawn_by_seed_step_and_place(tmp_path):
    """Anew in each step, by what seed and step alone decide, whatever process asks; and around their means."""
    recipe = gaussian(tmp_path)
    encode(recipe, tmp_path / "L")
    recipe = cached(recipe, tmp_path / "L")
    denoiser, source = build(recipe), open_data(recipe)

    def of(rank, iteration):
        work = Feed(recipe, denoiser, source, rank)(iteration)
        return work.hand.images, encoded(
            recipe, denoiser, work.batch.images, work.draw.posterior, moments=isinstance(work.batch, Encoded)
        )

    _, whole = of(Rank(), 3)
    for index in range(2):
        places, own = of(Rank(index, 2), 3)
        assert torch.equal(own, whole[places])
    work = Feed(recipe, denoiser, source)(3)
    other = Feed(recipe, denoiser, source)(4).draw.posterior
    assert not torch.equal(work.draw.posterior, other)
    assert abs(float(torch.cat([work.draw.posterior, other]).std()) - 1) < 0.2
    mean, log_variance = work.batch.images.chunk(2, 1)
    torch.testing.assert_close(whole / 1.7, mean + (log_variance / 2).exp() * work.draw.posterior)
    assert torch.equal(drawn(mean, None), mean)


def test_training_with_latents_resumes_with_images_and_back(tmp_path):
    """They are no other recipe: a run goes on with what is at hand."""
    recipe = latent(tmp_path)
    encode(recipe, tmp_path / "L")

    def until(iterations, latents):
        options = attrs.evolve(recipe.training, iterations=iterations, latents=latents)
        return attrs.evolve(recipe, training=options)

    msdk.train(until(6, tmp_path / "L"), tmp_path / "whole")
    for iterations, latents in ((2, None), (4, tmp_path / "L"), (6, None)):
        msdk.train(until(iterations, latents), tmp_path / "parts", resume=True)
    one, other = weights(tmp_path / "whole"), weights(tmp_path / "parts")
    for name, value in one.items():
        torch.testing.assert_close(other[name], value, rtol=1e-4, atol=2e-6)


def picture_recipe(folder, seed=0):
    """The tiny recipe on the latents of a folder of pictures."""
    (folder / "images").mkdir(exist_ok=True)
    generator = np.random.default_rng(seed)
    for number in range(9):
        pixels = generator.integers(0, 255, (8, 8), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / "images" / f"{number}.png")
    return latent(folder, f'data={{name="folder", path="{folder / "images"}", size=8, channels=1}}')


def test_other_data_and_other_autoencoders_are_refused(tmp_path):
    """By their digests and settings, with what to do; latents may go without their images."""
    recipe = picture_recipe(tmp_path)
    encode(recipe, tmp_path / "L")
    options = attrs.evolve(recipe.training, latents=tmp_path / "L")
    good = attrs.evolve(recipe, training=options)
    Image.new("L", (8, 8)).save(tmp_path / "images" / "3.png")
    with pytest.raises(DataError, match=r"they are of data with the SHA-256 \w+\.\.\., and those of this recipe"):
        msdk.train(good, tmp_path / "run")
    shutil.rmtree(tmp_path / "images")
    msdk.train(good, tmp_path / "run")
    larger = attrs.evolve(good, data=attrs.evolve(good.data, protocol="a:b"))
    with pytest.raises(DataError, match="and those of this recipe are not there"):
        msdk.train(larger, tmp_path / "run", force=True)
    scaled = attrs.evolve(good, autoencoder=attrs.evolve(good.autoencoder, scale=1.0))
    assert len(open_data(scaled)) == 9  # which latents do not depend on
    other = load_file(tmp_path / "vq.safetensors")
    save_file({name: value + 0.1 for name, value in other.items()}, tmp_path / "other.safetensors")
    swapped = attrs.evolve(good, autoencoder=attrs.evolve(good.autoencoder, weights=tmp_path / "other.safetensors"))
    with pytest.raises(DataError, match=r"an autoencoder whose weights have the SHA-256 .* encode the data anew"):
        msdk.train(swapped, tmp_path / "run", force=True)
    with pytest.raises(DataError, match="an autoencoder with other settings"):
        open_data(attrs.evolve(good, autoencoder=attrs.evolve(good.autoencoder, codes=8)))
    assert latest(tmp_path / "run")


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ({"flip": True}, "training.flip needs those of mirrored images"),
        ({"augment": 0.5}, "training.augment changes images before they are encoded"),
        ({"precision": "bf16"}, ""),
    ],
)
def test_what_latents_cannot_give_is_told(tmp_path, override, words):
    """Before a folder is made; what was encoded in float32 is good for half precision."""
    recipe = latent(tmp_path)
    encode(recipe, tmp_path / "L")
    changed = attrs.evolve(recipe, training=attrs.evolve(recipe.training, latents=tmp_path / "L", **override))
    if not words:
        msdk.train(changed, tmp_path / "run")
        return
    with pytest.raises((DataError, PartError), match=words):
        msdk.train(changed, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_more_is_told_of_what_does_not_suit(tmp_path):
    """No autoencoder; Gaussians of one that has none; half precision for float32."""
    with pytest.raises(PartError, match=r"is for recipes with an .autoencoder."):
        msdk.train(tiny(f'training.latents="{tmp_path}"'), tmp_path / "run")
    with pytest.raises(PartError, match=r"the recipe has no .autoencoder."):
        encode(tiny(), tmp_path / "L")
    recipe = latent(tmp_path, "training.precision=bf16")
    encode(recipe, tmp_path / "L")
    full = attrs.evolve(recipe.training, latents=tmp_path / "L", precision="fp32")
    with pytest.raises(DataError, match=r"encoded in bf16, and training.precision is not that"):
        open_data(attrs.evolve(recipe, training=full))
    with pytest.raises(DataError, match=r"holds no latents: it has no latents.json"):
        open_data(attrs.evolve(recipe, training=attrs.evolve(recipe.training, latents=tmp_path)))


@pytest.fixture
def small_files(monkeypatch):
    """Files of 45 latents each."""
    monkeypatch.setattr(encoding, "FILE_SIZE", 45 * 4 * 32)


def same_files(one, other):
    names = {path.name for path in one.iterdir()}
    assert names == {path.name for path in other.iterdir()}
    return all((one / name).read_bytes() == (other / name).read_bytes() for name in names)


def test_a_call_that_was_stopped_is_gone_on_with(tmp_path, small_files):
    """What is whole is kept, the result is the same to the byte; other latents are not gone on with."""
    recipe = gaussian(tmp_path, "training.flip=true")
    encode(recipe, tmp_path / "whole")
    notes = read_notes(tmp_path / "whole")
    assert (notes.images, notes.moments, notes.mirrored, len(notes.files())) == (200, True, True, 5)

    def stop(done, total):
        if done > 100:
            raise KeyboardInterrupt

    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            encode(recipe, tmp_path / "L", progress=stop)
        assert not (tmp_path / "L").exists()
    assert encode(recipe, tmp_path / "L").kept == 90
    assert same_files(tmp_path / "whole", tmp_path / "L")
    assert not list(tmp_path.glob(".*"))
    with pytest.raises(RunError, match="L exists: give another --out, or --force"):
        encode(recipe, tmp_path / "L")
    with pytest.raises(KeyboardInterrupt):
        encode(recipe, tmp_path / "other", progress=stop)
    assert encode(gaussian(tmp_path), tmp_path / "other").kept == 0
    (tmp_path / "mine").mkdir()
    with pytest.raises(RunError, match="mine holds no latents, so it is not replaced"):
        encode(recipe, tmp_path / "mine", force=True)


def test_processes_share_the_work(tmp_path, small_files):
    """Each makes files of its own, of the same bytes."""
    recipe = latent(tmp_path)
    encode(recipe, tmp_path / "one")
    found = processes(2, lambda: encode(recipe, tmp_path / "two").images, tmp_path)
    assert found == [200, 200]
    assert same_files(tmp_path / "one", tmp_path / "two")


def test_notes_of_strangers_are_held_to_their_files(tmp_path):
    """Numbers beyond any data set, shapes of none: told before anything is opened or allocated."""
    recipe = latent(tmp_path)
    encode(recipe, tmp_path / "L")
    file = tmp_path / "L" / "latents.json"
    notes = json.loads(file.read_text())
    here = attrs.evolve(recipe, training=attrs.evolve(recipe.training, latents=tmp_path / "L"))
    for key, value, words in (
        ("images", 10**12, "more than 256 files"),
        ("shape", [2, 4, 5], r"they are \[2, 4, 5\], and those of this recipe are \[2, 4, 4\]"),
        ("shape", [], "shape"),
        ("per_file", 0, "per_file"),
        ("images", 201, "is damaged"),
    ):
        file.write_text(json.dumps({**notes, key: value}))
        with pytest.raises((DataError, RunError), match=words):
            open_data(here)


@pytest.mark.parametrize("damage", ["cut", "header", "missing", "kind"])
def test_damaged_files_are_told(tmp_path, small_files, damage):
    """By name, when they are opened."""
    encode(latent(tmp_path), tmp_path / "L")
    file = tmp_path / "L" / "00001.safetensors"
    content = file.read_bytes()
    if damage == "missing":
        file.unlink()
    elif damage == "kind":
        save_file({"mean": torch.zeros(45, 2, 4, 4, dtype=torch.float64)}, file)
    else:
        file.write_bytes(content[:-7] if damage == "cut" else b"\xff" * 20 + content[20:])
    with pytest.raises(DataError, match=r"00001.safetensors (is damaged|cannot be read)"):
        Latents(tmp_path / "L", read_notes(tmp_path / "L"))


def test_the_commands(tmp_path, capsys, monkeypatch):
    """Encode, look, train: what is printed can be used as it is."""
    (tmp_path / "r.toml").write_text(to_toml(gaussian(tmp_path, "encoder.classes=10")))
    monkeypatch.chdir(tmp_path)
    code, out, _ = quick(capsys, monkeypatch, "data", "encode", "r.toml", "--out", "L")
    assert code == 0
    assert "latents of 200 images, 2x4x4, with variances" in out
    setting = out.partition("--set ")[2].strip()
    assert quick(capsys, monkeypatch, "train", "r.toml", "--out", "R", "--set", setting)[0] == 0
    code, out, _ = quick(capsys, monkeypatch, "data", "info", "L", "--json")
    told = json.loads(out)
    assert (code, told["images"], told["shape"], told["moments"]) == (0, 200, [2, 4, 4], True)
    assert told["data"] == {"name": "digits"}
    assert "variances: kept" in quick(capsys, monkeypatch, "data", "info", "L")[1]
    code, _, err = quick(capsys, monkeypatch, "data", "encode", "r.toml", "--out", "L")
    assert (code, "L exists" in err) == (2, True)
