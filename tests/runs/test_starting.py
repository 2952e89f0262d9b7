"""Promises of `init`: a run begins with the weights of another, part by part, and says what of them it took."""

import hashlib
import json

import attrs
import pytest
import torch
from commands import quick
from processes import processes
from safetensors.torch import load_file

import msdk
from msdk.errors import PartError, RecipeError, RunError
from msdk.partition import Partition
from msdk.recipe import to_toml
from msdk.runs import latest, load_checkpoint
from recipes import latent, tiny

DECODER = '{name="ddpmpp", channels=8}'
UNIFIED = (f"decoders=[{DECODER}]", "stages.edges_ratio=[]", "sharing=unified", "training.iterations=3")
THREE = (f"decoders=[{DECODER}, {DECODER}, {DECODER}]",)
STILL = ("training.iterations=1", "training.warmup=1", "training.log_every=1")
"""One step with a learning rate of 0: what is saved is what the run began with."""


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run of one stage whose averages are not its weights."""
    run = tmp_path_factory.mktemp("runs") / "unified"
    msdk.train(tiny(*UNIFIED, "training.lr=0.01"), run)
    return run


def started(folder, run, *overrides, init="", warn=None):
    """A run that has taken one step of length 0."""
    out = folder / "started"
    msdk.train(tiny(*THREE, *STILL, f'init={{run="{run}"{init}}}', *overrides), out, warn=warn or (lambda text: None))
    return out


def outputs(run, weights="ema"):
    """What a run's denoiser makes of the same images at noise levels of every stage."""
    denoiser = msdk.load_run(run, weights=weights)
    x = torch.randn(2, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        return [denoiser(x, t) for t in torch.linspace(0.01, 1.0, 9).tolist()]


@pytest.mark.parametrize("sharing", ["shared", "separate"])
def test_a_run_of_one_stage_starts_all_stages(tmp_path, trained, sharing):
    """At every noise level the outputs are those of the run that was copied, whoever has the encoders."""
    out = started(tmp_path, trained, f"sharing={sharing}")
    for one, other in zip(outputs(trained), outputs(out), strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-6)
    raw = zip(outputs(trained, "ema"), outputs(out, "raw"), strict=True)
    assert all(torch.allclose(one, other, rtol=0, atol=1e-6) for one, other in raw)
    assert not torch.allclose(outputs(trained, "raw")[4], outputs(out, "raw")[4], atol=1e-6)


def test_lock_and_recipe_say_what_it_began_with(tmp_path, trained):
    """Path, checkpoint, digest of the weights, and where each part came from; a recipe's file is read back."""
    out = started(tmp_path, trained)
    found = json.loads((out / "lock.json").read_text())["started_from"]
    weights = latest(trained) / "ema.safetensors"
    assert found["sha256"] == hashlib.sha256(weights.read_bytes()).hexdigest()
    assert found["run"] == str(trained)
    assert (found["checkpoint"], found["weights"], found["optimizer"]) == ("00000003", "ema", False)
    assert found["parts"] == {"encoders.0": "encoders.0", **{f"decoders.{k}": "decoders.0" for k in range(3)}}
    assert msdk.load_recipe(out / "recipe.toml").init.run == trained
    assert "started_from" not in json.loads((trained / "lock.json").read_text())


def test_the_optimiser_goes_on_where_it_is_wanted(tmp_path, trained):
    """With the last weights and what was kept of each, in every stage; averages are the run's."""
    out = started(tmp_path, trained, init=", optimizer=true")
    old, new = load_checkpoint(latest(trained)), load_checkpoint(latest(out))
    for name, value in new.model.items():
        before = "decoders.0." + name.split(".", 2)[2] if name.startswith("decoders.") else name
        assert torch.equal(value, old.model[before])
        mixed = torch.lerp(old.model[before], old.ema[before], 2 / 11)  # (1 + n) / (10 + n) of the first step
        torch.testing.assert_close(new.ema[name], mixed)
    steps = {name: float(value) for name, value in new.optimizer.items() if name.startswith("step/")}
    assert set(steps.values()) <= {3.0, 4.0}
    assert 4.0 in steps.values()
    plain = load_checkpoint(latest(started(tmp_path / "plain", trained)))
    assert all(float(value) == 1 for name, value in plain.optimizer.items() if name.startswith("step/"))
    with pytest.raises(RunError, match=r"init.optimizer: .* was trained by AdamW.*leave init.optimizer out"):
        started(tmp_path / "sgd", trained, 'training.optimizer={name="sgd"}', init=", optimizer=true")


def test_what_does_not_fit_begins_anew_and_is_said(tmp_path, trained):
    """Part by part, with the reason; where nothing fits there is no run."""
    told = []
    out = started(tmp_path, trained, "decoders.2.channels=4", "decoders.1.dropout=0.3", warn=told.append)
    parts = json.loads((out / "lock.json").read_text())["started_from"]["parts"]
    assert [parts[f"decoders.{k}"] for k in range(3)] == ["decoders.0", "decoders.0", "anew"]
    (sentence,) = told
    assert "decoders.2 begins anew: it is not decoders.0, where" in sentence
    assert " instead of " in sentence
    assert "4 channels are fewer than 8" in sentence
    initial = msdk.build(tiny(*THREE, "decoders.2.channels=4")).network.state_dict()
    raw = load_checkpoint(latest(out)).model
    own = [name for name in initial if name.startswith("decoders.2.")]
    assert all(torch.equal(raw[name], initial[name]) for name in own)
    with pytest.raises(RunError, match=r"no part of .* has the weights that this recipe wants"):
        started(tmp_path / "none", trained, "encoder.channels=12")
    assert not (tmp_path / "none").exists() or not any((tmp_path / "none").glob("*.toml"))


def test_other_settings_and_processes_are_said(tmp_path, trained):
    """Weights that fit and will compute something else."""
    told = []
    started(tmp_path, trained, "decoders.0.rescale=false", "schedule.beta_max=19.0", warn=told.append)
    assert any("the schedule is not that of" in each for each in told)
    assert any("decoders.0 has the weights of decoders.0, and other settings: rescale" in each for each in told)


@pytest.mark.parametrize(
    ("edges", "found"),
    [((0.3, 2.5), (0, 1, 2)), ((2.0, 2.5), (1, 1, 2)), ((0.01, 0.02), (0, 0, 1)), ((40.0, 50.0), (1, 2, 2))],
)
def test_stages_come_from_where_their_noise_levels_are(edges, found):
    """By the share of the training times; the same edges give the same stages."""
    from msdk.runs.starting import _stages

    parent = tiny(*THREE)
    recipe = tiny(*THREE, 'init={run="R"}').with_partition(Partition(edges))
    assert _stages(recipe, parent) == found


def test_stages_may_be_told(tmp_path, trained):
    """A stage of the run for each, -1 for none; what is wrong with the list is said."""
    parent = tmp_path / "three"
    msdk.train(tiny(*THREE, "sharing=separate", "training.iterations=2", "training.lr=0.01"), parent)
    out = started(tmp_path, parent, "sharing=separate", init=", stages=[2, 0, -1]")
    old = load_file(latest(parent) / "ema.safetensors")
    new = load_checkpoint(latest(out)).model
    for stage, source in ((0, 2), (1, 0)):
        for kind in ("encoders", "decoders"):
            for name in (each for each in new if each.startswith(f"{kind}.{stage}.")):
                assert torch.equal(new[name], old[name.replace(f"{kind}.{stage}.", f"{kind}.{source}.")])
    with pytest.raises(PartError, match=r"an encoder for each stage, and this recipe one for all: .* = .0, 0, 0."):
        started(tmp_path / "a", parent)
    with pytest.raises(PartError, match="has no stage 3: there are 3, 0 to 2"):
        started(tmp_path / "b", parent, "sharing=separate", init=", stages=[3, 0, 1]")
    with pytest.raises(RecipeError, match=r'init\.stages\s+has 2 entries for 3 stages: give one for each, or "copy"'):
        tiny(*THREE, 'init={run="R", stages=[0, 1]}')


def test_a_run_that_is_resumed_does_not_start_again(tmp_path, trained):
    """It goes on with its own weights, also where the other run is gone; with another init it is another run."""
    import shutil

    copied = shutil.copytree(trained, tmp_path / "copied")
    recipe = tiny(*THREE, f'init={{run="{copied}"}}', "training.iterations=2")
    longer = attrs.evolve(recipe, training=attrs.evolve(recipe.training, iterations=4))
    msdk.train(longer, tmp_path / "whole")
    msdk.train(recipe, tmp_path / "halves")
    shutil.rmtree(copied)
    msdk.train(longer, tmp_path / "halves", resume=True)
    one, other = (load_checkpoint(latest(tmp_path / name)) for name in ("whole", "halves"))
    assert all(torch.equal(value, other.model[name]) for name, value in one.model.items())
    assert json.loads((tmp_path / "halves" / "lock.json").read_text())["started_from"]["run"] == str(copied)
    with pytest.raises(RunError, match=r"with other init\.run"):
        msdk.train(attrs.evolve(longer, init=attrs.evolve(longer.init, run=trained)), tmp_path / "halves", resume=True)


def test_another_autoencoder_is_said(tmp_path):
    """Its latents are others, though all weights fit."""
    msdk.train(latent(tmp_path, "training.iterations=1"), tmp_path / "run")
    recipe, told = latent(tmp_path, "training.iterations=1", f'init={{run="{tmp_path / "run"}"}}'), []
    recipe = attrs.evolve(recipe, autoencoder=attrs.evolve(recipe.autoencoder, scale=1.0))
    msdk.train(recipe, tmp_path / "other", warn=told.append)
    assert [each.partition(",")[0] for each in told] == ["the autoencoder is not that of the run"]


def test_processes_start_alike(tmp_path, trained):
    """In shards, too: two processes begin with what one does, and their optimiser with its moments."""
    init = f'init={{run="{trained}", optimizer=true}}'
    recipe = tiny(*THREE, *STILL, init, "training.parallel=fsdp", "encoder.dropout=0.0")
    processes(2, lambda: msdk.train(recipe, tmp_path / "two", device="cpu").last.iteration, tmp_path)
    msdk.train(recipe, tmp_path / "one")
    one, two = (load_checkpoint(latest(tmp_path / name)) for name in ("one", "two"))
    for kind in ("model", "ema"):
        for name, value in getattr(one, kind).items():
            torch.testing.assert_close(getattr(two, kind)[name], value)
    for name in (each for each in one.optimizer if each.startswith("step/")):
        assert float(one.optimizer[name]) == float(two.optimizer[name])
    started = [json.loads((tmp_path / each / "lock.json").read_text())["started_from"] for each in ("one", "two")]
    assert started[0] == started[1]


def test_mistakes_are_told_in_words(tmp_path, trained, capsys, monkeypatch):
    """No folder, no checkpoint: exit code 2, one message, and no run."""
    (tmp_path / "r.toml").write_text(to_toml(tiny(*THREE, *STILL)))
    monkeypatch.chdir(tmp_path)
    for init, words in (
        ('{run="nowhere"}', "nowhere is not a run folder"),
        (f'{{run="{trained}", checkpoint=7}}', "no checkpoint of iteration 7. Known: 3."),
        (f'{{run="{trained}", wieghts="raw"}}', "weights"),
    ):
        code, _, err = quick(capsys, monkeypatch, "train", "r.toml", "--out", "R", "--set", f"init={init}")
        assert code == 2
        assert words in err
        assert not (tmp_path / "R").exists()
