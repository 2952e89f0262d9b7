"""Promises of a run that goes on: what may change may, what may not is named, and the folder tells of it."""

import json
import re
import warnings

import attrs
import numpy as np
import pytest
from commands import quick
from PIL import Image

import msdk
from msdk.errors import RunError
from msdk.recipe import Training, to_toml
from msdk.runs import checkpoints, refuse_other_recipe, run_recipe, start_run
from msdk.runs.lock import class_names
from msdk.runs.resuming import FREE_IN_TRAINING, WATCHING, resumed, write_resumed
from recipes import tiny

SHORT = ("training.iterations=2", "training.warmup=0", "training.log_every=1")
OTHERS = {
    "iterations": 9,
    "batch_size": 4,
    "accumulation": 2,
    "recompute": "true",
    "objective": '{ name = "uncertainty" }',
    "noise": '{ name = "uniform" }',
    "stage_draw": '"uniform"',
    "stage_groups": 4,
    "mixed": "false",
    "importance": "true",
    "lr": 0.5,
    "warmup": 3,
    "lr_schedule": '{ name = "cosine" }',
    "optimizer": '{ name = "sgd" }',
    "betas": [0.5, 0.9],
    "weight_decay": 0.1,
    "sanitize": "true",
    "gradients": '{ name = "pcgrad" }',
    "gradient_cosine": "true",
    "clip_norm": 7.0,
    "ema_decay": 0.5,
    "ema_half_life": 100,
    "ema_ramp": 0.5,
    "flip": "true",
    "augment": 0.5,
    "label_dropout": 0.5,
    "precision": "bf16",
    "compile": "true",
    "workers": 2,
    "cache_images": "false",
    "latents": '"latents"',
    "parallel": "fsdp",
    "averages": '[{ name = "power" }]',
    "average_by": '"stage"',
    "snapshot_every": 3,
    "seed": 5,
    "validate_every": 2,
    "validate_images": 5,
    "validate_weights": "raw",
    "stop": "{ patience = 2 }",
    "sample_every": 2,
    "sample_images": 5,
    "log_every": 7,
    "checkpoint_every": 7,
    "keep": 7,
    "evaluate_every": 2,
}


def test_all_keys_of_training_are_looked_at():
    """A new key has to stand here, and so it is decided whether it may change."""
    assert OTHERS.keys() == {field.name for field in attrs.fields(Training)}


@pytest.mark.parametrize("key", OTHERS)
def test_each_key_may_change_or_is_named(tmp_path, key):
    """With what it was and what it is; and those that may are told to who asks."""
    run = tmp_path / "run"
    looked_at = ("data.held_out=0.2", "training.validate_every=3")  # which stopping goes by
    start_run(run, tiny(*looked_at))
    beside = {"accumulation": ("training.batch_size=8",), "evaluate_every": ("evaluation.images=9",)}.get(key, ())
    other = tiny(*looked_at, f"training.{key}={OTHERS[key]}", *beside)
    if f"training.{key}" in FREE_IN_TRAINING + WATCHING:
        assert any(each.startswith(f"training.{key}") for each in refuse_other_recipe(run, other))
        return
    with pytest.raises(
        RunError, match=rf"trained by another recipe, with other training\.{key}[.\w]* \(.* there, .* here\)"
    ):
        refuse_other_recipe(run, other)


def test_what_training_stops_by_does_not_change(tmp_path):
    """Looks may come more often while nothing follows from them; what is held out never changes."""
    stop = ("data.held_out=0.2", "training.validate_every=3", "training.stop={ patience = 2 }")
    start_run(tmp_path / "run", tiny(*stop))
    others = ("training.validate_every=2", "training.validate_images=9", "data.held_out=0.3")
    for other in (*others, "stages.edges_ratio=[0.4, 2.5]"):
        with pytest.raises(RunError, match=rf"with other {other.partition('=')[0]}[.0]* \("):
            refuse_other_recipe(tmp_path / "run", tiny(*stop, other))


@pytest.mark.parametrize(
    "words", ["encoder.channels=12", "decoders.2.channels=8", "schedule.beta_max=19.0", "weighting.name=uniform"]
)
def test_keys_outside_of_training_are_named(tmp_path, words):
    """By the path that --set takes."""
    start_run(tmp_path / "run", tiny())
    key = words.partition("=")[0].replace(".", r"\.")
    with pytest.raises(RunError, match=rf"with other {key} \("):
        refuse_other_recipe(tmp_path / "run", tiny(words))


def test_what_changed_is_told_by_lock_and_recipe(tmp_path):
    """Key by key, with the iteration; the folder stays one of ours, also without its lock."""
    run = tmp_path / "run"
    msdk.train(tiny(*SHORT), run)
    told = []
    other = tiny(*SHORT, "training.iterations=3", "training.lr=1e-3", "training.log_every=5", "sampling.steps=7")
    msdk.train(other, run, resume=True, warn=told.append)
    (entry,) = json.loads((run / "lock.json").read_text())["resumed"]
    assert entry["iteration"] == 2
    assert entry["recipe"] == {
        "training.iterations": [2, 3],
        "training.lr": [tiny().training.lr, 1e-3],
        "training.log_every": [1, 5],
    }
    assert run_recipe(run).training == other.training
    assert f"# Changed at iteration 2: training.lr was {tiny().training.lr}" in (run / "recipe.toml").read_text()
    assert "the learning rate jumps at iteration 2: training.lr changed" in told[0]
    msdk.train(run, run, resume=True)  # nothing new, so nothing is told
    assert len(json.loads((run / "lock.json").read_text())["resumed"]) == 1
    (run / "lock.json").unlink()
    assert msdk.train(tiny(*SHORT), run, force=True).last.iteration == 2


def test_a_resume_without_changes_is_silent(tmp_path):
    """No word, and no history."""
    run = tmp_path / "run"
    msdk.train(tiny(*SHORT), run)
    before = (run / "lock.json").read_text(), (run / "recipe.toml").read_text()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        msdk.train(tiny(*SHORT), run, resume=True)
    assert ((run / "lock.json").read_text(), (run / "recipe.toml").read_text()) == before


@pytest.mark.parametrize(
    ("settings", "changed", "jumps"),
    [
        (('training.lr_schedule={name="cosine"}',), "training.iterations=6", "training.iterations changed"),
        ((), "training.iterations=6", ""),
        ((), 'training.lr_schedule={name="cosine"}', "training.lr_schedule.name"),
        (("training.warmup=1",), "training.warmup=100", "training.warmup changed"),
        ((), "training.warmup=1", ""),  # only the first step would have had another rate
    ],
)
def test_rates_that_jump_are_said(tmp_path, settings, changed, jumps):
    """By the rates before and after, whatever key makes them so; and only then."""
    msdk.train(tiny(*SHORT, *settings), tmp_path / "run")
    told = []
    msdk.train(tiny(*SHORT, *settings, changed), tmp_path / "run", resume=True, warn=told.append)
    assert bool(told) == bool(jumps)
    assert all("the learning rate jumps at iteration 2" in each and jumps in each for each in told)


def images(folder, seed):
    folder.mkdir(exist_ok=True)
    generator = np.random.default_rng(seed)
    for number in range(4):
        Image.fromarray(generator.integers(0, 255, (8, 8), dtype=np.uint8)).save(folder / f"{number}.png")


def test_other_data_are_refused_unless_they_are_wanted(tmp_path):
    """Under the same path; the same data under another path are the same."""
    images(tmp_path / "images", 0)
    recipe = tiny(*SHORT, f'data={{name="folder", path="{tmp_path / "images"}", size=8, channels=1}}')
    longer = attrs.evolve(recipe, training=attrs.evolve(recipe.training, iterations=3))
    run = tmp_path / "run"
    msdk.train(recipe, run)
    before = {path.name: path.read_bytes() for path in run.iterdir() if path.is_file()}
    (tmp_path / "images").rename(tmp_path / "moved")
    images(tmp_path / "images", 1)
    with pytest.raises(
        RunError, match=r"images are not those that .*run was trained on: .* or go on with these by --force-data"
    ):
        msdk.train(longer, run, resume=True)
    assert {path.name: path.read_bytes() for path in run.iterdir() if path.is_file()} == before
    old = json.loads(before["lock.json"])["data"]["sha256"]
    told = []
    msdk.train(longer, run, resume=True, force_data=True, warn=told.append)
    lock = json.loads((run / "lock.json").read_text())
    assert lock["resumed"][0]["data"] == [old, lock["data"]["sha256"]]
    assert lock["data"]["sha256"] != old
    assert "goes on with other data" in told[0]
    there = attrs.evolve(recipe, data=attrs.evolve(recipe.data, path=tmp_path / "moved"))
    with pytest.raises(RunError, match="are not those that"):
        msdk.train(there, run, resume=True)


def test_other_versions_are_said_and_kept(tmp_path):
    """Of msdk, torch, Python and plugins; training goes on."""
    run = tmp_path / "run"
    msdk.train(tiny(*SHORT), run)
    lock = json.loads((run / "lock.json").read_text())
    (run / "lock.json").write_text(json.dumps({**lock, "torch": "1.0", "of_tomorrow": 3}))
    with pytest.warns(
        UserWarning, match=rf"run was trained with torch 1\.0, and goes on with {lock['torch'].replace('+', '.')}"
    ):
        msdk.train(tiny(*SHORT, "training.iterations=3"), run, resume=True)
    now = json.loads((run / "lock.json").read_text())
    assert now["torch"] == lock["torch"]
    assert now["resumed"][0]["versions"] == {"torch": ["1.0", lock["torch"]]}
    assert now["of_tomorrow"] == 3


def test_a_run_folder_stands_for_its_recipe(tmp_path, capsys, monkeypatch):
    """`train RUN --resume` goes on in RUN, `run` too, and `recipe diff` compares it."""
    (tmp_path / "r.toml").write_text(to_toml(tiny(*SHORT)))
    monkeypatch.chdir(tmp_path)
    assert quick(capsys, monkeypatch, "train", "r.toml", "--out", "R")[0] == 0
    code, out, _ = quick(capsys, monkeypatch, "train", "R", "--resume", "--set", "training.iterations=3")
    assert (code, checkpoints(tmp_path / "R")[-1].name) == (0, "00000003")
    assert "run folder R" in out
    assert "continue it with --resume" in quick(capsys, monkeypatch, "train", "R")[2]
    code, out, _ = quick(capsys, monkeypatch, "recipe", "diff", "r.toml", "R", "--json")
    assert [each["path"] for each in json.loads(out)] == ["training.iterations"]
    assert {path.name for path in tmp_path.iterdir()} == {"r.toml", "R"}


def test_run_goes_on_in_its_phase(tmp_path, capsys, monkeypatch):
    """After training it samples; after sampling it writes the report alone, as it would have been."""
    (tmp_path / "r.toml").write_text(to_toml(tiny(*SHORT)))
    monkeypatch.chdir(tmp_path)
    clustered = 'stages={clustering={name="timestep", stages=3}}'
    words = ("run", "r.toml", "--out", "R", "--set", clustered)
    quick(capsys, monkeypatch, "cluster", "r.toml", "--set", clustered)  # what is known from before is reported alike
    assert quick(capsys, monkeypatch, *words)[0] == 0
    run = tmp_path / "R"
    untimed = re.compile(r", in \d+\.\d s; seeds")  # drawing took another while than finding what is drawn
    report, drawn = (run / "report.md").read_text(), (run / "samples/grid.png").stat().st_mtime_ns
    (run / "report.md").unlink()
    monkeypatch.setattr("msdk.training.loop.Trainer.advance", None)  # no step is left to do
    assert quick(capsys, monkeypatch, *words, "--resume")[0] == 0
    assert (run / "samples/grid.png").stat().st_mtime_ns == drawn
    again = (run / "report.md").read_text()
    assert untimed.sub("", again) == untimed.sub("", report)
    assert len(untimed.findall(report)) == 1
    assert "## Stages" in again
    losses = json.loads((run / "metrics.jsonl").read_text().splitlines()[-1])["loss_by_stage"]
    told = [line.split("|")[6].strip() for line in report.partition("What each stage saw")[2].splitlines()[4:7]]
    assert told == ["-" if loss is None else f"{loss:.4f}" for loss in losses]


def test_going_on_once_more_writes_the_same_again(tmp_path):
    """The lock of a run that went on, with its history and its names of classes, is not changed by going on again."""
    recipe = tiny("training.iterations=1", 'data={name="digits"}')
    start_run(tmp_path / "run", recipe, force=False, data_digest="d", class_names=["cat", "dog"])
    longer = attrs.evolve(recipe, training=attrs.evolve(recipe.training, iterations=2))
    locks = []
    for _ in range(2):
        what = resumed(tmp_path / "run", longer, "d", 1, {"training.iterations": (1, 2)} if not locks else {})
        write_resumed(tmp_path / "run", longer, "d", what)
        locks.append((tmp_path / "run" / "lock.json").read_text())
    assert locks[0] == locks[1]
    assert json.loads(locks[1])["resumed"] == [{"iteration": 1, "recipe": {"training.iterations": [1, 2]}}]
    assert class_names(tmp_path / "run") == ("cat", "dog")


def test_a_run_is_known_by_its_resolved_recipe(tmp_path):
    """Without its lock a run folder may still be replaced, also one that was changed, but none with another recipe."""
    run, recipe = tmp_path / "run", tiny(*SHORT)
    msdk.train(recipe, run)
    (run / "lock.json").unlink()
    own = (run / "recipe.toml").read_text()
    (run / "recipe.toml").write_text("# mine\n" + own)
    with pytest.raises(RunError):
        msdk.train(recipe, run, force=True)
    (run / "recipe.toml").write_text("# Changed at iteration 1: training.lr was 0.1\n" + own)
    assert msdk.train(recipe, run, force=True).last.iteration == 2
