"""Promises of samples on disk: every kind of file, streaming, going on after a kill, sharing among processes."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
import zipfile

import attrs
import numpy as np
import pytest
import torch
from commands import command, quick, torchrun
from PIL import Image
from safetensors import safe_open

import msdk
from msdk.errors import RunError
from msdk.sampling.drawing import write_samples
from msdk.sampling.pictures import grid, to_pixels
from recipes import tiny


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run whose networks are large enough in their outputs to tell a wrong route or seed."""
    place = tmp_path_factory.mktemp("runs") / "run"
    msdk.train(tiny("sampling.steps=3", "sampling.images=6"), place)
    return place


@pytest.fixture(scope="module")
def recipe(run):
    return msdk.load_recipe(run / "recipe.toml")


@pytest.fixture(scope="module")
def pixels(run, recipe):
    """The images of six seeds, drawn in memory."""
    images = msdk.sample(msdk.load_run(run), recipe.solver, recipe.steps, range(6))
    return to_pixels(images)


def read(path):
    with Image.open(path) as image:
        return torch.from_numpy(np.array(image))


def test_pixels():
    """[-1, 1] becomes 0 .. 255 with rounding and clipping."""
    assert to_pixels(torch.tensor([-2.0, -1.0, 0.0, 1.0, 9.0]).view(1, 1, 1, 5)).flatten().tolist() == [
        0,
        0,
        128,
        255,
        255,
    ]


def test_grid_is_large_enough_to_see():
    """Small images are enlarged by whole factors; colour stays colour."""
    sheet = grid(torch.full((5, 3, 8, 8), 200, dtype=torch.uint8))
    assert sheet.size == (2 * 66 + 2, 3 * 66 + 2)
    assert sheet.getpixel((10, 10)) == (200, 200, 200)
    assert sheet.getpixel((0, 0)) == (128, 128, 128)


def test_files(tmp_path):
    """A run gets grid.png and one PNG per seed, and what made them, with every network call."""
    recipe = tiny("sampling.steps=2")
    msdk.train(recipe, tmp_path / "run")
    folder = write_samples(tmp_path / "run", recipe, seeds=[3, 11])
    assert sorted(path.name for path in folder.iterdir()) == ["000003.png", "000011.png", "grid.png", "samples.json"]
    facts = json.loads((folder / "samples.json").read_text())
    budget = msdk.budget(recipe).as_json()
    assert facts["trace"] == budget["trace"]
    assert (facts["seeds"], facts["nfe"]) == ([3, 11], budget["nfe"])
    assert not (tmp_path / "run" / "samples.partial").exists()
    with Image.open(folder / "000003.png") as image:
        assert (image.size, image.mode) == ((8, 8), "L")


def test_a_folder_of_something_else_is_not_replaced(tmp_path):
    """--force replaces samples, not a folder that holds anything else."""
    recipe = tiny("sampling.steps=2")
    msdk.train(recipe, tmp_path / "run")
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "notes.txt").write_text("years of work")
    with pytest.raises(RunError, match="holds other things than samples"):
        write_samples(tmp_path / "run", recipe, out=tmp_path / "thesis")
    assert (tmp_path / "thesis" / "notes.txt").exists()


def test_every_kind_of_file(run, recipe, pixels, tmp_path):
    """Folder, zip in EDM's layout, npz and safetensors hold the same pixels, by seed."""
    for name in ("a.zip", "a.npz", "a.safetensors", "folder"):
        write_samples(run, recipe, out=tmp_path / name)
    for seed in range(6):
        assert torch.equal(read(tmp_path / "folder" / f"{seed:06d}.png"), pixels[seed, 0])
    with zipfile.ZipFile(tmp_path / "a.zip") as archive:
        assert sorted(archive.namelist())[:2] == ["00000/img00000000.png", "00000/img00000001.png"]
        assert json.loads(archive.read("dataset.json")) == {"labels": None, "seeds": [0, 1, 2, 3, 4, 5]}
        assert torch.equal(read(archive.open("00000/img00000005.png")), pixels[5, 0])
    with np.load(tmp_path / "a.npz") as arrays:
        assert np.array_equal(arrays["arr_0"], pixels.permute(0, 2, 3, 1).numpy())
        assert arrays["seeds"].tolist() == list(range(6))
    with safe_open(tmp_path / "a.safetensors", framework="pt") as tensors:
        assert torch.equal(tensors.get_tensor("images"), pixels)
        assert tensors.get_tensor("seeds").tolist() == list(range(6))
    assert len(json.loads((tmp_path / "a.samples.json").read_text())["trace"]) == len(
        msdk.samplers.tracing.explain(recipe.partition(), recipe.schedule, recipe.solver, recipe.steps)
    )


def test_a_zip_of_samples_is_a_data_set(run, recipe, tmp_path):
    """What was drawn can be read as data again."""
    write_samples(run, recipe, out=tmp_path / "a.zip")
    source = tiny(f'data={{name="zip", path="{tmp_path / "a.zip"}", size=8, channels=1}}').data.open()
    assert len(source) == 6


def test_labels_are_in_the_files(tmp_path):
    """Classes stand beside the images of a conditional model."""
    recipe = tiny("encoder.classes=10", "sampling.steps=2", "sampling.images=3")
    msdk.train(recipe, tmp_path / "run")
    for name in ("a.zip", "a.npz", "a.safetensors"):
        write_samples(tmp_path / "run", recipe, seeds=[8, 9, 10], out=tmp_path / name)
    with zipfile.ZipFile(tmp_path / "a.zip") as archive:
        assert [label for _, label in json.loads(archive.read("dataset.json"))["labels"]] == [8, 9, 0]
    with np.load(tmp_path / "a.npz") as arrays:
        assert arrays["arr_1"].tolist() == [8, 9, 0]
    with safe_open(tmp_path / "a.safetensors", framework="pt") as tensors:
        assert tensors.get_tensor("labels").tolist() == [8, 9, 0]


def test_what_was_drawn_is_not_drawn_again(run, recipe, tmp_path, monkeypatch):
    """A second process draws only what the first, which was stopped, had not."""
    out, drawn = tmp_path / "out", []
    real = msdk.sampling.drawing.draw

    def stopped(denoiser, settings, **options):
        for chunk, images in real(denoiser, attrs.evolve(settings, batch_size=2), **options):
            drawn.append(chunk)
            yield chunk, images
            if len(drawn) == 2:
                raise KeyboardInterrupt

    monkeypatch.setattr(msdk.sampling.drawing, "draw", stopped)
    with pytest.raises(KeyboardInterrupt):
        write_samples(run, recipe, out=out)
    assert not out.exists()
    assert len(list((tmp_path / "out.partial").glob("*.png"))) == 4
    write_samples(run, recipe, out=out)
    assert drawn == [[0, 1], [2, 3], [4, 5]]
    assert len(list(out.glob("0*.png"))) == 6
    assert not (tmp_path / "out.partial").exists()


def test_other_settings_do_not_mix(run, recipe, tmp_path):
    """Half-done samples are not finished by another sampler."""
    partial = tmp_path / "out.partial"
    partial.mkdir()
    (partial / "settings.json").write_text("{}")
    with pytest.raises(RunError, match="begun with other settings"):
        write_samples(run, recipe, out=tmp_path / "out")
    shutil.rmtree(partial)
    partial.mkdir()
    (partial / "diary.txt").write_text("dear diary")
    with pytest.raises(RunError, match="holds other things than samples"):
        write_samples(run, recipe, out=tmp_path / "out")
    assert (partial / "diary.txt").exists()


@pytest.mark.parametrize(
    ("name", "words"), [("a.jpeg", "cannot be written as '.jpeg'"), ("a.zpi", "Did you mean '.zip'?")]
)
def test_unknown_kinds_are_told(run, recipe, tmp_path, name, words):
    """The message has what there is."""
    with pytest.raises(RunError, match=words):
        write_samples(run, recipe, out=tmp_path / name)


@pytest.mark.parametrize("sharing", ["shared", "separate"])
def test_offloading_draws_the_same(tmp_path, sharing):
    """Loading each stage's part when it runs changes no pixel, and at most one decoder is there at a time."""
    recipe = tiny(f"sharing={sharing}", "sampling.images=3", "sampling.steps=5")
    msdk.train(recipe, tmp_path / "run")
    plain, lazy = (msdk.load_run(tmp_path / "run", offload=offload) for offload in (False, True))
    images = [msdk.sample(each, recipe.solver, 5, range(3)) for each in (plain, lazy)]
    assert torch.equal(*images)
    held = {name.partition(".")[0] for name, _ in lazy.network.named_parameters()}
    assert held == ({"encoders"} if sharing == "shared" else set())


@pytest.mark.slow
def test_processes_share_the_seeds(run, recipe, pixels, tmp_path):
    """Two processes draw what one draws, and one of them writes it."""
    done = torchrun("sample", run, "--seeds", "0-5", "--out", tmp_path / "a.zip", "--device", "cpu")
    assert done.stdout.count("drew 6 images") == 1
    with zipfile.ZipFile(tmp_path / "a.zip") as archive:
        for seed in range(6):
            difference = read(archive.open(f"00000/img{seed:08d}.png")).int() - pixels[seed, 0].int()
            assert difference.abs().max() <= 1


@pytest.mark.slow
def test_a_killed_process_goes_on(run, tmp_path):
    """SIGKILL in the midst of it loses no image that was drawn, and the same command finishes."""
    arguments = ("sample", run, "--seeds", "0-399", "--out", tmp_path / "out", "--set", "sampling.batch_size=4")
    child = subprocess.Popen([sys.executable, "-m", "msdk", *map(str, arguments)], stderr=subprocess.DEVNULL)
    partial = tmp_path / "out.partial"
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and (not partial.is_dir() or len(list(partial.glob("0*.png"))) < 20):
        time.sleep(0.02)
    os.kill(child.pid, signal.SIGKILL)
    child.wait()
    before = {file.name: file.stat().st_mtime_ns for file in partial.glob("0*.png")}
    assert 20 <= len(before) < 400
    command(*arguments, "--offload")
    assert len(list((tmp_path / "out").glob("0*.png"))) == 400


def test_the_command_names_sampler_and_steps(run, tmp_path, capsys, monkeypatch):
    """--sampler and --steps stand for --set; --json says where the images are."""
    code, out, err = quick(
        capsys, monkeypatch, "sample", run, "--sampler", "heun", "--steps", "3", "--out", tmp_path / "a.zip", "--json"
    )
    assert code == 0, err
    assert json.loads(out)["images"] == 6
    facts = json.loads((tmp_path / "a.samples.json").read_text())
    assert (facts["samplers"][0]["name"], facts["nfe"]) == ("heun", 5)
    code, _, err = quick(capsys, monkeypatch, "sample", run, "--sampler", "huen")
    assert code == 2
    assert "Did you mean 'heun'?" in err


def test_pictures_of_others_are_not_replaced(tmp_path, run, recipe):
    """--force replaces samples of ours alone: a folder with other PNGs is theirs, even one more beside ours."""
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "photo1.png").write_text("precious")
    with pytest.raises(RunError, match=r"holds other things than samples of msdk \('photo1.png'\)"):
        write_samples(run, recipe, seeds=[0], out=mine)
    (tmp_path / "mine.zip").write_text("precious")
    with pytest.raises(RunError, match="is not known to be samples of msdk"):
        write_samples(run, recipe, seeds=[0], out=tmp_path / "mine.zip")
    ours = write_samples(run, recipe, seeds=[0], out=tmp_path / "ours")
    write_samples(run, recipe, seeds=[1], out=ours)
    shutil.copy(mine / "photo1.png", ours / "000007.png")
    with pytest.raises(RunError, match=r"000007.png"):
        write_samples(run, recipe, seeds=[0], out=ours)
    assert (mine / "photo1.png").read_text() == (ours / "000007.png").read_text() == "precious"


def test_half_done_samples_are_never_stuck(tmp_path, run, recipe):
    """Killed before settings.json, or begun with other settings: the next command begins, or does when asked to."""
    partial = tmp_path / "out.partial"
    partial.mkdir()
    (partial / ".settings.json.77.tmp").write_text("{")
    write_samples(run, recipe, seeds=[0], out=tmp_path / "out")
    partial.mkdir()
    (partial / "settings.json").write_text("{}")
    with pytest.raises(RunError, match="begun with other settings"):
        write_samples(run, recipe, seeds=[0], out=tmp_path / "out")
    write_samples(run, recipe, seeds=[0], out=tmp_path / "out", replace=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out"]


def test_images_that_are_not_finite_are_told(tmp_path, run, recipe, monkeypatch):
    """An image of nan is not written as a black one: its seed is told, and those before it are kept."""

    def drawn(*_, **__):
        yield [0], torch.zeros(1, 1, 8, 8)
        yield [1, 2], torch.stack([torch.zeros(1, 8, 8), torch.full((1, 8, 8), torch.nan)])

    monkeypatch.setattr("msdk.sampling.drawing.draw", drawn)
    with pytest.raises(RunError, match="the images of seeds 2 are not finite"):
        write_samples(run, recipe, seeds=[0, 1, 2], out=tmp_path / "out")
    assert (tmp_path / "out.partial" / "000000.png").is_file()
    assert not (tmp_path / "out").exists()
