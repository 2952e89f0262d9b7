"""Promises of what is shipped beside the package: every recipe builds and is counted, every benchmark runs."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import msdk
from msdk.budgeting.counting import count_second
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
    assert all(count_second(denoiser.stage(stage), one) > 0 for stage in range(len(recipe.decoders)))
    images = torch.empty(2, *recipe.shape, device="meta")
    assert denoiser.eval()(images, torch.tensor([0.5, 0.01])).shape == images.shape


@pytest.mark.parametrize("path", sorted(Path("benchmarks").glob("bench_*.py")), ids=str)
def test_benchmark_runs(path):
    """Each benchmark runs once, tiny, and prints one JSON line with its results."""
    done = subprocess.run([sys.executable, str(path), "--runs", "1"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["results"]
