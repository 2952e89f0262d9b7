"""Promises of msdk.runs.fork: nothing of a run gets lost on the way into another, or the error says what would."""

import hashlib
import json
import shutil
import sys
from pathlib import Path

import attrs
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import msdk
from msdk.errors import PartError, RunError
from msdk.partition import Partition
from msdk.registry import local_code
from msdk.runs import Checkpoint, fork, latest, load_checkpoint, run_recipe, save_checkpoint, write_recipe
from msdk.training import train
from recipes import latent, tiny

RUN = Path(__file__).parent / "before"
"""A trained run with two equal decoders, see test_before.py."""


def same(one, other):
    """Whether two things that checkpoints hold are equal to the last bit."""
    if isinstance(one, torch.Tensor):
        return torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(value, other[key]) for key, value in one.items())
    return one == other


@pytest.fixture
def counted(tmp_path):
    """A run whose optimiser keeps numbers of weights and of groups, as timm's and schedule-free ones do."""
    run = shutil.copytree(RUN, tmp_path / "counted")
    old = load_checkpoint(latest(run))
    numbers = {
        "state": {f"step/{name}": index for index, name in enumerate(old.model)},
        "groups": [{"k": 4, "weight_sum": 0.25, "lr_max": 0.003, "train_mode": True, "d": [0.5]}],
    }
    save_checkpoint(run, attrs.evolve(old, optimizer_numbers=numbers), keep=1)
    return run


def staged(decoders):
    """The run's recipe with other decoders, in as many stages."""
    recipe = attrs.evolve(run_recipe(RUN), decoders=decoders)
    return recipe.with_partition(Partition(tuple(0.5 + k for k in range(len(decoders) - 1))))


def test_a_fork_under_the_same_names_is_the_run_itself(counted, tmp_path):
    """Everything that a checkpoint holds is there, and two more steps give the weights that the old run gets."""
    out = fork(counted, run_recipe(counted), lambda name: [name], tmp_path / "out")
    old, new = load_checkpoint(latest(counted)), load_checkpoint(latest(out))
    for field in attrs.fields(Checkpoint):
        assert same(getattr(old, field.name), getattr(new, field.name)), field.name
    run = shutil.copytree(RUN, tmp_path / "run")
    out = fork(run, run_recipe(run), lambda name: [name], tmp_path / "again")
    longer = msdk.load_recipe(run / "recipe.toml", ["training.iterations=6"])
    for folder in (run, out):
        train(longer, folder, resume=True, device="cpu", warn=lambda text: None)  # of another version of Python
    old, new = load_checkpoint(latest(run)), load_checkpoint(latest(out))
    for name in ("model", "ema", "optimizer", "optimizer_numbers", "images_by_stage"):
        assert same(getattr(old, name), getattr(new, name)), name


@settings(max_examples=8, deadline=None)
@given(sources=st.lists(st.sampled_from([0, 1, None]), min_size=1, max_size=4))
def test_every_decoder_has_what_it_comes_from(tmp_path_factory, sources):
    """Moved, copied, left or new: weights, averages, moments and numbers of a stage go together."""
    folder = tmp_path_factory.mktemp("fork")
    run = shutil.copytree(RUN, folder / "run")
    old = load_checkpoint(latest(run))
    old = attrs.evolve(old, optimizer_numbers={"state": {f"count/{name}": 7 for name in old.model}, "groups": []})
    save_checkpoint(run, old, keep=1)
    recipe = staged((run_recipe(run).decoders[0],) * len(sources))

    def rename(name):
        kind, number, rest = name.split(".", 2)
        if kind != "decoders":
            return [name]
        return [f"decoders.{stage}.{rest}" for stage, source in enumerate(sources) if source == int(number)]

    out = fork(run, recipe, rename, folder / "out", images=lambda seen: [sum(seen)] + [0] * (len(sources) - 1))
    new, initial = load_checkpoint(latest(out)), msdk.build(recipe).network.state_dict()
    for stage, source in enumerate(sources):
        for name in (each for each in initial if each.startswith(f"decoders.{stage}.")):
            before = name.replace(f"decoders.{stage}.", f"decoders.{source}.")
            for kind in ("model", "ema"):
                wanted = initial[name] if source is None else getattr(old, kind)[before]
                assert torch.equal(getattr(new, kind)[name], wanted)
            for moment in ("exp_avg", "exp_avg_sq", "step"):
                kept, wanted = new.optimizer.get(f"{moment}/{name}"), old.optimizer.get(f"{moment}/{before}")
                assert (kept is None and wanted is None) or torch.equal(kept, wanted)
            assert new.optimizer_numbers["state"].get(f"count/{name}") == (None if source is None else 7)
    assert all(torch.equal(new.model[name], old.model[name]) for name in old.model if name.startswith("encoders."))
    assert sum(new.images_by_stage) == sum(old.images_by_stage)


def test_a_run_with_a_new_decoder_goes_on(tmp_path):
    """What the new stage lacks, the optimiser begins, beside stages that have been trained."""
    recipe = staged((*run_recipe(RUN).decoders, run_recipe(RUN).decoders[0]))
    out = fork(RUN, recipe, lambda name: [name], tmp_path / "out", images=lambda seen: (*seen, 0))
    longer = attrs.evolve(recipe, training=attrs.evolve(recipe.training, iterations=6))
    train(longer, out, resume=True, device="cpu")
    before, after = load_checkpoint(latest(RUN)), load_checkpoint(latest(out))
    stem = "encoders.0.stem.weight"
    assert float(after.optimizer[f"step/{stem}"]) == float(before.optimizer[f"step/{stem}"]) + 2
    steps = [value for name, value in after.optimizer.items() if name.startswith("step/decoders.2.")]
    assert steps
    assert all(0 < float(value) <= 2 for value in steps)


def test_what_is_not_of_a_weight_stays_as_it_is(counted, tmp_path):
    """Counts of the optimiser's groups, a flag and a tensor of one number among them."""
    out = fork(counted, run_recipe(counted), lambda name: [name], tmp_path / "out")
    (group,) = load_checkpoint(latest(out)).optimizer_numbers["groups"]
    assert group == {"k": 4, "weight_sum": 0.25, "lr_max": 0.003, "train_mode": True, "d": [0.5]}


def test_the_lock_says_where_a_run_comes_from(tmp_path):
    """Run, checkpoint and digest of its weights, the parent first; data that are still the same keep their digest."""
    once = fork(RUN, run_recipe(RUN), lambda name: [name], tmp_path / "once")
    twice = fork(once, run_recipe(once), lambda name: [name], tmp_path / "twice")
    parent, child, grandchild = (json.loads((run / "lock.json").read_text()) for run in (RUN, once, twice))
    assert child["data"] == grandchild["data"] == parent["data"]
    assert [each["run"] for each in grandchild["forked_from"]] == [str(once), str(RUN)]
    assert child["forked_from"][0]["checkpoint"] == "00000004"
    assert grandchild["forked_from"][0]["sha256"] == grandchild["forked_from"][1]["sha256"]
    recipe = attrs.evolve(run_recipe(RUN), data=msdk.datasets.get("folder")(path=tmp_path, size=8, channels=1))
    other = fork(RUN, recipe, lambda name: [name], tmp_path / "other")
    assert json.loads((other / "lock.json").read_text())["data"] == {"name": "folder", "sha256": ""}


def test_a_fork_stands_alone(tmp_path, monkeypatch):
    """Autoencoder and code come along: the fork of a run on latents draws the same when the run is gone."""
    monkeypatch.setattr(local_code, "_allowed", True)
    monkeypatch.setattr(local_code, "_run", {})
    monkeypatch.setitem(sys.modules, "msdk_local_part", None)  # what the file becomes goes again after the test
    monkeypatch.setattr(msdk.optimizers.registry, "_added", {})
    (tmp_path / "part.py").write_text(
        "import attrs, msdk\nfrom msdk.optimizers.sgd import SGD\n"
        "@msdk.optimizers.add('mine')\n@attrs.frozen(kw_only=True)\nclass Mine(SGD): pass\n"
    )
    recipe = latent(
        tmp_path, f"use=['{tmp_path / 'part.py'}']", "training.iterations=1", "training.optimizer.name=mine"
    )
    run, out = tmp_path / "run", tmp_path / "out"
    train(recipe, run, device="cpu")
    before = msdk.sample(msdk.load_run(run), recipe.sampler, 2, [0])
    fork(run, run_recipe(run), lambda name: [name], out)
    shutil.rmtree(run)
    (tmp_path / "part.py").unlink()
    assert torch.equal(msdk.sample(msdk.load_run(out), recipe.sampler, 2, [0]), before)
    assert (out / "code" / "part.py").is_file()
    lock = json.loads((out / "lock.json").read_text())
    assert lock["autoencoder"]["sha256"] == hashlib.sha256((out / "autoencoder.safetensors").read_bytes()).hexdigest()


def test_a_run_without_a_lock_can_be_forked(tmp_path):
    """Its weights are there, whatever happened to the rest."""
    run = shutil.copytree(RUN, tmp_path / "run")
    (run / "lock.json").unlink()
    out = fork(run, run_recipe(run), lambda name: [name], tmp_path / "out")
    assert json.loads((out / "lock.json").read_text())["data"]["sha256"] == ""


def test_averages_that_a_run_did_not_keep_begin_with_its_weights(tmp_path):
    """They are not made up from initial weights."""
    run = shutil.copytree(RUN, tmp_path / "run")
    save_checkpoint(run, attrs.evolve(load_checkpoint(latest(run)), ema={}), keep=1)
    recipe = staged((*run_recipe(run).decoders, run_recipe(run).decoders[0]))
    out = fork(run, recipe, lambda name: [name], tmp_path / "out", images=lambda seen: (*seen, 0))
    found = load_checkpoint(latest(out))
    assert found.ema.keys() == found.model.keys()
    assert all(torch.equal(found.ema[name], value) for name, value in found.model.items())


@pytest.mark.parametrize(
    ("part", "other", "words"),
    [
        ("decoders.1.", "decoders.2.", r"decoders\.1\.\S+ would be decoders\.2\.\S+, which the new network has not"),
        ("stem.bias", "embedding.hidden.bias", r"stem\.bias is \(4,\), and encoders\.0\.embedding\.hidden\.bias is"),
        ("decoders.1.", "decoders.0.", r"decoders\.0\.(\S+) and decoders\.1\.\1 would both be decoders\.0\.\1"),
    ],
)
def test_names_that_do_not_fit_are_told(tmp_path, part, other, words):
    """A weight that would get lost, or another's shape or place, is an error before anything is written."""
    with pytest.raises(RunError, match=words):
        fork(RUN, run_recipe(RUN), lambda name: [name.replace(part, other)], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_what_cannot_be_forked_is_told(tmp_path):
    """Other optimisers and stages, edges that are not known, runs without a checkpoint: before anything is written."""
    recipe, out = run_recipe(RUN), tmp_path / "out"
    sgd = attrs.evolve(recipe.training, optimizer=msdk.optimizers.get("sgd")())
    clustered = msdk.load_recipe(RUN / "recipe.toml", ['stages={clustering={name="snr", stages=2}}'])
    bare = tmp_path / "bare"
    bare.mkdir()
    write_recipe(bare, recipe)
    for run, new, error, words in (
        (RUN, attrs.evolve(recipe, training=sgd), RunError, "was trained by AdamW.*, and SGD.* cannot go on"),
        (RUN, staged(recipe.decoders * 2), RunError, "counted for 2 stages, but the new recipe has 4"),
        (RUN, clustered, PartError, "edges are still to be found"),
        (bare, recipe, RunError, "has no checkpoint yet"),
        (RUN, attrs.evolve(recipe, decoders=recipe.decoders[:1]), msdk.RecipeError, "2 stages need as many decoders"),
    ):
        with pytest.raises(error, match=words):
            fork(run, new, lambda name: [name], out)
    assert not out.exists()
    with pytest.raises(RunError, match="exists"):
        fork(RUN, recipe, lambda name: [name], RUN)


def test_a_fork_begins_or_drops_averages_as_its_recipe_says(tmp_path):
    """Averages that the new recipe wants begin with the weights; those that it does not keep are left behind."""
    plain, averaged = tiny("training.ema_decay=0"), tiny()
    msdk.train(plain, tmp_path / "plain")
    msdk.train(averaged, tmp_path / "averaged")
    begun = load_checkpoint(latest(fork(tmp_path / "plain", averaged, lambda name: [name], tmp_path / "a")))
    assert begun.ema.keys() == begun.model.keys()
    assert all(torch.equal(begun.ema[name], begun.model[name]) for name in begun.ema)
    dropped = load_checkpoint(latest(fork(tmp_path / "averaged", plain, lambda name: [name], tmp_path / "b")))
    assert dropped.ema == {}
    other = tiny('training.objective={name="uncertainty"}')
    with pytest.raises(RunError, match="give the new recipe the objective of the run"):
        fork(tmp_path / "averaged", other, lambda name: [name], tmp_path / "c")
