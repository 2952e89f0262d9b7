"""Promises of what is shipped beside the package: every recipe builds and is counted, every benchmark runs."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import msdk
from msdk.budgeting.counting import count_on_meta
from msdk.partition import Partition

RECIPES = sorted(path for path in Path("recipes").rglob("*.toml") if path.stem != "base")


@pytest.mark.parametrize("path", RECIPES, ids=str)
def test_recipe_builds_and_is_counted(path):
    """Each recipe loads, builds on the meta device without memory, and torch's counter sees every part of it."""
    if path.stem.startswith("timm"):
        pytest.importorskip("msdk_timm", reason="the recipe's plugin is not installed")
    recipe = msdk.load_recipe(path)
    edges = Partition((0.3, 2.5)) if recipe.clustered else recipe.partition()
    denoiser = msdk.build(recipe, "meta", edges)
    assert all(parameter.is_meta for parameter in denoiser.parameters())
    one = [torch.empty(1, *recipe.shape, device="meta"), torch.empty(1, device="meta")]
    assert all(count_on_meta(denoiser.stage(stage), one)[0] > 0 for stage in range(len(recipe.decoders)))
    images = torch.empty(2, *recipe.shape, device="meta")
    assert denoiser.eval()(images, torch.tensor([0.5, 0.01])).shape == images.shape


@pytest.mark.golden
@pytest.mark.parametrize(
    ("name", "published"),
    [
        ("cifar10/edm-unified", "edm_cifar10_uncond_vp_ddpmpp"),
        ("cifar10/edm-multistage", "ms_edm_cifar10"),
        ("imagenet64/adm", "edm_imagenet64_cond_adm"),
        ("ffhq64/ddpmpp", "edm_ffhq64_uncond_vp_ddpmpp"),
    ],
)
def test_edm_recipes_have_the_published_parameters(name, published, outside_data):
    """As many weights as the published network, in all and in each decoder; augmentation and class maps included."""
    golden = json.loads((outside_data / "golden" / "shapes" / f"{published}.json").read_text())
    network = msdk.build(msdk.load_recipe(f"recipes/{name}.toml"), "meta").network
    assert sum(parameter.numel() for parameter in network.parameters()) == golden["n_params"]
    if golden["params_per_decoder"] is not None:
        decoders = [sum(parameter.numel() for parameter in decoder.parameters()) for decoder in network.decoders]
        assert decoders == list(golden["params_per_decoder"].values())


BENCHMARKS = sorted(path for path in Path("benchmarks").glob("bench_*.py") if path.stem != "bench_memory")
"""All but the one that tests/budgeting/test_memory.py runs."""


@pytest.mark.parametrize("path", BENCHMARKS, ids=str)
def test_benchmark_runs(path):
    """Each benchmark runs once, tiny, and prints one JSON line with its results."""
    done = subprocess.run([sys.executable, str(path), "--runs", "1"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["results"]
