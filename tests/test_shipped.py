"""Promises of what is shipped beside the package: every recipe builds and is counted, every benchmark runs."""

import json
import math
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import msdk
from msdk.budgeting.counting import count_on_meta
from msdk.partition import Partition
from msdk.samplers.base import call_times

FOLDERS = {"msdk", "plugins", "recipes", "tests", "benchmarks", "docs", ".ci"}
FILES = {"README.md", "CHANGELOG.md", "CONTRIBUTING.md", "LICENSE", "Makefile", "pyproject.toml", ".gitignore"}

RECIPES = sorted(
    path for path in Path("recipes").rglob("*.toml") if path.stem != "base" and path.parent.name != "studies"
)


@pytest.mark.parametrize("path", RECIPES, ids=str)
def test_recipe_builds_and_is_counted(path):
    """Each recipe loads, builds on the meta device without memory, and torch's counter sees every part of it."""
    if path.stem.startswith("timm"):
        pytest.importorskip("msdk_timm", reason="the recipe's plugin is not installed")
    recipe = msdk.load_recipe(path)
    edges = Partition((0.3, 2.5)) if recipe.clustered else recipe.partition()
    denoiser = msdk.build(recipe, "meta", edges)
    assert all(parameter.is_meta for parameter in denoiser.parameters())
    one = [torch.empty(1, *recipe.fed, device="meta"), torch.empty(1, device="meta")]
    assert all(count_on_meta(denoiser.stage(stage), one)[0] > 0 for stage in range(len(recipe.decoders)))
    images = torch.empty(2, *recipe.fed, device="meta")
    assert denoiser.eval()(images, torch.tensor([0.5, 0.01])).shape == (2, *recipe.shape)


@pytest.mark.parametrize(
    "path", [path for path in RECIPES if "edm" in path.stem or path.parent.stem in ("ffhq64", "imagenet64")], ids=str
)
def test_recipes_of_edm_have_its_eps(path):
    """EDM sums its loss over the numbers of an image, of which msdk takes the mean; Adam's eps stands beside both."""
    recipe = msdk.load_recipe(path)
    assert recipe.training.rule.eps * math.prod(recipe.shape) == pytest.approx(1e-8, rel=1e-7)


def test_recipes_set_side_by_side_learn_alike():
    """What `compare` sets beside a recipe has its learning rate and optimiser, so that only the networks differ."""
    for path in RECIPES:
        recipe = msdk.load_recipe(path)
        for other in recipe.budget.compare:
            theirs = msdk.load_recipe(other)
            assert (recipe.training.lr, recipe.training.rule) == (theirs.training.lr, theirs.training.rule), path


def test_the_recipe_of_table_1():
    """FID 2.35 is after 450,000 iterations, drawn with 20 calls, 12/2/6 of them by stage."""
    recipe = msdk.load_recipe("recipes/cifar10/dpm-multistage-table1.toml")
    assert recipe.training.iterations == 450_000
    assert sum(recipe.solver.calls(recipe.steps)) == 20
    calls = [t for interval in call_times(recipe.solver, recipe.schedule, recipe.steps) for t in interval]
    stages = [recipe.partition().at(t, recipe.schedule) for t in calls]
    assert [stages.count(stage) for stage in range(3)] == [12, 2, 6]


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


ELSEWHERE = ("bench_attack", "bench_crashes", "bench_memory", "bench_mutants")
"""What tests/recipe/test_attack.py, runs/test_crashes.py and budgeting/test_memory.py run, and the test below."""

BENCHMARKS = sorted(path for path in Path("benchmarks").glob("bench_*.py") if path.stem not in ELSEWHERE)


@pytest.mark.parametrize("path", BENCHMARKS, ids=str)
def test_benchmark_runs(path):
    """Each benchmark runs once, tiny, and prints one JSON line with its results."""
    done = subprocess.run([sys.executable, str(path), "--runs", "1"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["results"]


def test_the_script_for_gpus_runs(tmp_path):
    """It runs a check, goes on where another one fails, and writes a table of both; here without a GPU."""
    env = {**os.environ, "DEVICE": "cpu", "OUT": str(tmp_path), "CHECKS": "nothing parity", "BENCH": "0"}
    done = subprocess.run(
        ["sh", "benchmarks/gpu.sh"], env=env | {"PYTHON": sys.executable}, capture_output=True, text=True
    )
    assert done.returncode == 1, done.stderr
    failed, parity = (json.loads(line) for line in (tmp_path / "checks.jsonl").read_text().splitlines())
    assert (failed["check"], failed["passed"]) == ("nothing", False)
    assert (parity["check"], parity["passed"]) == ("parity", True)
    assert "| parity |" in (tmp_path / "gpu.md").read_text()


def test_the_pair_for_gpus_runs():
    """Both networks are trained, tiny, and the ratio is of what each spends until the loss that both have reached."""
    words = ["--iterations", "8", "--looks", "2", "--device", "cpu", "--seconds", "200"]
    done = subprocess.run([sys.executable, "benchmarks/gpu_pair.py", *words], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)["results"]
    equal = found["equal"]
    assert equal["loss"] == max(min(found[name]["losses"]) for name in ("unified", "multistage"))
    assert equal["ratio"] == equal["multistage"] / equal["unified"]
    assert all(found[name]["spent"][0] <= equal[name] <= found[name]["spent"][-1] for name in ("unified", "multistage"))


def test_mutants_are_tried(tmp_path):
    """Two mistakes in a small part are noticed by the tests that a map says reach them, and that pass without them."""
    bench = [sys.executable, "benchmarks/bench_mutants.py", "--map", str(tmp_path / "map.jsonl")]
    done = subprocess.run([*bench, "--record", "tests/weightings"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    words = ["--runs", "2", "--only", "msdk.weightings.edm", "--processes", "1"]
    done = subprocess.run([*bench, *words], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    results = json.loads(done.stdout)["results"]
    assert (results["tried"], results["caught"]) == (2, 2), done.stderr


def test_nothing_else_stands_at_the_top():
    """Run folders and other leftovers of trials do not get into the project."""
    listed = subprocess.run(["git", "ls-files"], capture_output=True, text=True, check=False)
    if listed.returncode:
        pytest.skip("not a checkout of git")
    assert {path.partition("/")[0] for path in listed.stdout.splitlines()} <= FOLDERS | FILES
