"""Promises of shipped recipes: each of CIFAR-10's, and those of other data with an objective of their own, trains."""

import io
import json
import math
import zipfile
from pathlib import Path

import attrs
import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

import msdk
from msdk.recipe.encoder_checks import encoders_by_key

LATENT = 'autoencoder={name="kl", channels=8, channel_mult=[1, 2], blocks=1, z_channels=4, latent_channels=4, groups=4'
"""A tiny first stage, with latents of 4 channels and half the side; the table is left open."""

SMALL = {"channels": 8, "blocks": 1, "channel_mult": [1, 1], "attention": [4], "groups": 4, "head_width": 4}
SMALL |= {"width": 8, "depth": 2, "heads": 2, "patch": 2, "classes": 2, "convolution": [0.5]}
"""Setting of a network -> its value in a test, which has it where it is not 0."""

OTHERS = ("dit", "dpm", "edm", "separate", "uvit")
"""How recipes begin whose networks and objective the tests of the digits train every day."""

RECIPES = [
    pytest.param(path, id=path.stem, marks=[pytest.mark.slow] * path.stem.startswith(OTHERS))
    for path in (*sorted(Path("recipes/cifar10").glob("*.toml")), Path("recipes/imagenet256/sit-xl.toml"))
    if path.stem != "timm-resnet18"  # whose plugin need not be installed
]


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """A folder of zips of six coloured pictures each, of two classes: 8.zip and 16.zip by their sides."""
    folder, generator = tmp_path_factory.mktemp("images"), np.random.default_rng(0)
    for side in (8, 16):
        with zipfile.ZipFile(folder / f"{side}.zip", "w") as archive:
            for number in range(6):
                saved = io.BytesIO()
                Image.fromarray(generator.integers(0, 256, (side, side, 3), dtype=np.uint8)).save(saved, "PNG")
                archive.writestr(f"{number}.png", saved.getvalue())
            labels = [[f"{number}.png", number % 2] for number in range(6)]
            archive.writestr("dataset.json", json.dumps({"labels": labels}))
    return folder


def shrunk(path, images, folder):
    """A recipe as it is, with a network, a batch and images that take a moment; three steps."""
    recipe, found = msdk.load_recipe(path), []
    networks = {**encoders_by_key(recipe), **{f"decoders.{i}": each for i, each in enumerate(recipe.decoders)}}
    for place, network in networks.items():
        have = {field.name: getattr(network, field.name) for field in attrs.fields(type(network))}
        found += [f"{place}.{name}={value}" for name, value in SMALL.items() if have.get(name)]
    side = 8
    if recipe.autoencoder is not None:
        side = 16
        torch.manual_seed(0)
        spec = msdk.load_recipe(path, [f"{LATENT}}}"]).autoencoder
        save_file(spec.build((3, side, side)).state_dict(), folder / "first.safetensors")
        found += [f'{LATENT}, weights="{folder / "first.safetensors"}"}}']
    found += [
        f"data.path={images / str(side)}.zip",
        f"data.size={side}",
        "training.iterations=3",
        "training.batch_size=4",
    ]
    found += ["training.log_every=1", "training.checkpoint_every=100", "budget.compare=[]"]
    return msdk.load_recipe(path, found)


@pytest.mark.parametrize("path", RECIPES)
def test_it_is_counted_and_trains_three_steps(path, images, tmp_path):
    """Shrunk by settings alone: both counters agree on every operator, and each step has a loss."""
    recipe = shrunk(path, images, tmp_path)
    counted = msdk.budget(recipe)
    assert (counted.uncounted, counted.disagreements) == ({}, ())
    assert all(stage.macs > 0 for stage in counted.stages)
    msdk.train(recipe, tmp_path / "run", device="cpu")
    rows = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert [row["iteration"] for row in rows] == [1, 2, 3]
    assert all(math.isfinite(row["loss"]) and row["loss"] > 0 for row in rows)
