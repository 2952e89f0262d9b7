"""Signals and videos: the whole path for images of one and of three axes, with parts from a recipe's local file."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from commands import quick
from safetensors.torch import load_file

import msdk
from msdk.errors import RecipeError, RunError
from msdk.registry import local_code
from msdk.training import train

CODE = Path(__file__).parent / "any_shape" / "parts.py"
RECIPE = """
use = ["parts.py"]
data = {{ name = "moving", sides = {sides} }}
encoder = {{ name = "waves" }}
decoders = [{{ name = "waves", channels = 16 }}, {{ name = "waves", channels = 4 }}]
stages = {{ clustering = {{ name = "optimal-denoiser", stages = 2, draws = 200 }} }}
sampler = {{ name = "heun" }}
sampling = {{ steps = 3, images = 2, batch_size = 2 }}
[training]
iterations = 4
batch_size = 4
checkpoint_every = 2
log_every = 1
keep = 9
"""
SHAPES = {"signal": (2, 64), "video": (3, 4, 16, 16)}


@pytest.fixture
def write(tmp_path, monkeypatch):
    """Writes the recipe and its code; what that registers is forgotten after the test."""
    monkeypatch.setattr(local_code, "_allowed", True)
    monkeypatch.setattr(local_code, "_run", {})
    for kind in ("encoders", "decoders", "datasets"):
        monkeypatch.setattr(getattr(msdk, kind).registry, "_added", {})

    def write(shape, extra=""):
        (tmp_path / "parts.py").write_text(CODE.read_text())
        path = tmp_path / "r.toml"
        path.write_text(RECIPE.format(sides=list(shape)) + extra)
        return path

    return write


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_the_whole_path(write, tmp_path, capsys, monkeypatch, shape):
    """Check, budget by two counters, cluster, train, resume bit for bit, sample: as for pictures."""

    def command(*arguments):
        code, out, err = quick(capsys, monkeypatch, *arguments, "--allow-code")
        assert code == 0, err
        return out

    recipe = write(shape)
    command("recipe", "check", recipe)
    clustered = tmp_path / "c.json"
    command("cluster", recipe, "--out", clustered)
    edges = json.loads(clustered.read_text())["strategies"][0]["edges_ratio"]
    given = ["--set", f"stages={{edges_ratio={edges}}}"]
    (found,) = json.loads(command("budget", recipe, *given, "--json", "--memory"))
    assert found["input_shape"] == list(shape)
    assert found["audit"]["relative_difference"] == 0
    assert found["uncounted"] == {}
    assert found["memory"]["peak"] > 0
    whole, halves = tmp_path / "whole", tmp_path / "halves"
    command("train", recipe, *given, "--out", whole)
    command("train", recipe, *given, "--out", halves, "--set", "training.iterations=2")
    command("train", recipe, *given, "--out", halves, "--resume")
    for name in ("model", "ema", "optimizer"):
        one, two = (load_file(run / "checkpoints/00000004" / f"{name}.safetensors") for run in (whole, halves))
        assert one.keys() == two.keys()
        assert all(torch.equal(one[key], two[key]) for key in one)
    command("sample", whole)
    images = [np.load(whole / f"samples/{seed:06d}.npy", allow_pickle=False) for seed in (0, 1)]
    assert [(image.shape, image.dtype) for image in images] == [(shape, np.uint8)] * 2
    command("sample", whole, "--out", tmp_path / "all.safetensors")
    assert np.array_equal(load_file(tmp_path / "all.safetensors")["images"].numpy(), np.stack(images))


def test_what_needs_pictures_says_so(write, tmp_path):
    """Families and augmentations for two axes, and files of pictures, refuse other shapes in words."""
    recipe = write(SHAPES["signal"])
    pictures = ['encoder={name="ddpmpp"}', 'decoders=[{name="ddpmpp"},{name="ddpmpp"}]', "training.augment=0.1"]
    pictures.append("training.flip=true")
    with pytest.raises(RecipeError) as told:
        msdk.load_recipe(recipe, pictures)
    problems = {problem.path: problem.message for problem in told.value.problems}
    assert problems.keys() == {"encoder", "decoders.0", "decoders.1", "training.augment", "training.flip"}
    assert all("[2, 64]" in message for message in problems.values())
    ready = msdk.load_recipe(recipe, ["stages={edges_ratio=[1.0]}", "training.iterations=1"])
    train(ready, tmp_path / "run")
    from msdk.sampling.drawing import write_samples

    with pytest.raises(RunError, match=r"holds PNGs, and \[2, 64\] is no picture"):
        write_samples(tmp_path / "run", ready, out=tmp_path / "x.zip")


@pytest.mark.parametrize("sides", [[], [3], [1, 0, 8]])
def test_shapes_of_nothing_are_refused(write, sides):
    """Channels and at least one axis, each of at least 1: a recipe is checked for it before any part is built."""
    recipe = write(SHAPES["signal"])
    with pytest.raises(RecipeError, match="needs channels and at least one axis"):
        msdk.load_recipe(recipe, [f"data.sides={sides}"])
