"""Promises of trackers: those that every run has, those that a recipe adds, each step once."""

import contextlib
import json
import os
import signal
import sys
import time

import attrs
import pytest
import torch
from killed import train_until_killed, train_with_images

import msdk
from msdk import testing, trackers
from msdk.budgeting.ledger import LedgerTracker
from msdk.errors import PluginError, RecipeError
from msdk.runs import latest
from msdk.runs.metrics import JSONL
from msdk.trackers.base import Log, Tracker, scalars, told
from msdk.trackers.tensorboard import TensorBoard
from recipes import tiny


def of_lines(run):
    """The steps in metrics.jsonl."""
    file = run / "metrics.jsonl"
    return [json.loads(line)["iteration"] for line in file.read_text().splitlines()] if file.exists() else []


def of_ledger(run):
    """The step of ledger.json."""
    file = run / "ledger.json"
    return [json.loads(file.read_text())["iteration"]] if file.exists() else []


def events_of(run):
    """What TensorBoard's own reader finds."""
    reader = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator", reason="not installed")
    everything = {"images": 0, "scalars": 0}  # it keeps a sample of them otherwise
    return reader.EventAccumulator(str(run / "tensorboard"), everything).Reload()


def of_events(run):
    """The steps that TensorBoard shows of a loss."""
    events = events_of(run)
    return [event.step for event in events.Scalars("loss")] if events.Tags()["scalars"] else []


@pytest.mark.parametrize("law", testing.laws("tracker"))
@pytest.mark.parametrize(("tracker", "shown"), [(JSONL(), of_lines), (LedgerTracker(), of_ledger)])
def test_what_they_show(tracker, shown, law):
    """Files of the two that every run has, read."""
    law(tracker, shown=shown)


def test_event_files(tmp_path):
    """TensorBoard's own reader finds numbers by stage and images, and each step of a resumed run once."""
    pytest.importorskip("tensorboard", reason="tensorboard is not installed")
    for law in testing.laws("tracker"):
        law(TensorBoard(), shown=None if law.__name__ == "a_resumed_run_shows_each_step_once" else of_events)


def test_event_files_through_a_kill(tmp_path):
    """Killed at step 5 and resumed from 3: each step once, with the numbers of metrics.jsonl, and each image."""
    pytest.importorskip("tensorboard", reason="tensorboard is not installed")
    run, settings = tmp_path / "run", ('trackers=[{name="tensorboard"}]', "training.checkpoint_every=3")
    train_until_killed(5, run, "training.iterations=7", *settings)
    assert of_lines(run) == of_events(run) == [1, 2, 3, 4, 5]
    train_with_images(run, "training.iterations=7", *settings, resume=True)
    assert of_lines(run) == [1, 2, 3, 4, 5, 6, 7]
    assert_tensorboard_shows(run)


def test_a_sheet_at_a_stop_is_shown(tmp_path):
    """A run that stops between two log lines forgets its last line as it goes on, and not the sheet of that step."""
    pytest.importorskip("torch.utils.tensorboard", reason="tensorboard is not installed")
    every = ("training.iterations=8", "training.log_every=4", "training.sample_every=2", "training.checkpoint_every=99")
    recipe = tiny('trackers=[{name="tensorboard"}]', "sampling.steps=2", *every)

    def stop(step):
        if step.iteration == 5:
            os.kill(os.getpid(), signal.SIGTERM)

    msdk.train(recipe, tmp_path / "run", progress=stop)
    msdk.train(recipe, tmp_path / "run", resume=True)
    events = events_of(tmp_path / "run")
    assert [event.step for event in events.Scalars("loss")] == [4, 8]
    assert [event.step for event in events.Images("samples")] == [2, 4, 6, 8]


def test_event_files_of_one_second_are_read_in_their_order(tmp_path):
    """Beside a file of this second or the next, whose host and process would be read later."""
    pytest.importorskip("torch.utils.tensorboard", reason="tensorboard is not installed")
    (tmp_path / "tensorboard").mkdir()
    before = tmp_path / "tensorboard" / f"events.out.tfevents.{int(time.time()) + 1}.zz.99.0"
    before.touch()
    with contextlib.closing(TensorBoard().open(tmp_path, tiny())) as log:
        log.log(1, {"loss": 1.0})
    assert sorted((tmp_path / "tensorboard").iterdir())[0] == before


def assert_tensorboard_shows(run):
    """The numbers of metrics.jsonl, each once, and an image of each step."""
    events = events_of(run)
    lines = list(told(run, 99))
    for name in ("loss", "images", "lr", "images_by_stage/1"):
        found = [(event.step, event.value) for event in events.Scalars(name)]
        assert found == [(step, pytest.approx(dict(scalars(numbers))[name], rel=1e-6)) for step, numbers in lines]
    assert [image.step for image in events.Images("grid")] == [step for step, _ in lines]


def test_a_tracker_that_is_new_in_a_run_shows_all_of_it(tmp_path):
    """What was told before it was there, it is told from metrics.jsonl."""
    pytest.importorskip("tensorboard", reason="tensorboard is not installed")
    msdk.train(tiny("training.log_every=1"), tmp_path / "run")
    longer = tiny("training.log_every=1", "training.iterations=6", 'trackers=[{name="tensorboard"}]')
    msdk.train(longer, tmp_path / "run", resume=True)
    assert of_events(tmp_path / "run") == [1, 2, 3, 4, 5, 6]


def test_tensorboard_is_asked_for_in_words(tmp_path, monkeypatch):
    """Where it is not installed, training says what to install before it makes a folder."""
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    monkeypatch.delitem(sys.modules, "torch.utils.tensorboard", raising=False)
    with pytest.raises(
        PluginError, match=r"needs the package tensorboard: pip install 'msdk-diffusion\[tensorboard\]'"
    ):
        msdk.train(tiny('trackers=[{name="tensorboard"}]'), tmp_path / "run")
    assert not (tmp_path / "run").exists()


@trackers.add("frail")
@attrs.frozen(kw_only=True)
class Frail(Tracker):
    """Fails from a step on, for tests."""

    at: int = 3

    def open(self, run_dir, recipe):
        return Failing(self.at)


class Failing(Log):
    def __init__(self, at):
        self.at = at

    def log(self, step, numbers):
        if step >= self.at:
            raise ConnectionError("the server is gone")

    def image(self, name, step, image):
        pass

    def rewind(self, step):
        raise OSError("the disk is full")

    def close(self):
        raise ConnectionError("the server is still gone")


@pytest.mark.parametrize(
    ("at", "words"), [(3, "failed at iteration 3"), (9, "failed at the end")], ids=["in-between", "at-the-end"]
)
def test_a_tracker_that_fails_ends_no_training(tmp_path, at, words):
    """It is told once, by name and cause; the other trackers hear the rest, and metrics.jsonl is whole."""
    said, run = [], tmp_path / "run"
    recipe = tiny(f'trackers=[{{name="frail", at={at}}}, {{name="told"}}]', "training.log_every=1")
    assert msdk.train(recipe, run, warn=said.append).last.iteration == 4
    assert len(said) == 1
    assert f"the tracker 'frail' of the module {__name__} {words} and is told no more: ConnectionError: " in said[0]
    assert of_lines(run) == [1, 2, 3, 4] == [step for what, step, *_ in NOTES[run][:-1] if what == "log"]
    said.clear()
    longer = attrs.evolve(recipe, training=attrs.evolve(recipe.training, iterations=5))
    assert msdk.train(longer, run, warn=said.append, resume=True).last.iteration == 5
    assert ["where the run goes on from iteration 4" in each for each in said] == [True]


@trackers.add("told")
@attrs.frozen(kw_only=True)
class Told(Tracker):
    """Keeps what it is told, for tests."""

    def open(self, run_dir, recipe):
        return Notes(run_dir)


NOTES = {}


class Notes(Log):
    def __init__(self, run):
        self.told = NOTES.setdefault(run, [])

    def log(self, step, numbers):
        self.told.append(("log", step, numbers))

    def image(self, name, step, image):
        self.told.append(("image", step, name))

    def rewind(self, step):
        self.told.append(("rewind", step))

    def close(self):
        self.told.append(("close",))


def test_a_recipe_adds_trackers(tmp_path):
    """It is told what metrics.jsonl says, rewound to the checkpoint that a run goes on from, and always closed."""
    run = tmp_path / "run"
    recipe = tiny('trackers=[{name="told"}]', "training.log_every=1")
    msdk.train(recipe, run)
    told = NOTES[run]
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert [("log", line.pop("iteration"), line) for line in lines] == told[:-1]
    assert told[-1] == ("close",)
    assert msdk.load_recipe(run / "recipe.toml").trackers == (Told(),)
    told.clear()
    longer = attrs.evolve(recipe, training=attrs.evolve(recipe.training, iterations=6))

    def fail(step):
        raise OSError("the terminal is gone")

    with pytest.raises(OSError, match="gone"):
        msdk.train(longer, run, resume=True, progress=fail)
    assert [each[:2] for each in told] == [("rewind", 4), ("log", 5), ("close",)]
    assert msdk.train(attrs.evolve(longer, trackers=()), run, resume=True).last.iteration == 6
    assert of_lines(run) == [1, 2, 3, 4, 5, 6]


def test_a_ledger_from_after_the_checkpoint_goes(tmp_path):
    """A run killed after its checkpoint of step 4 had told of step 5: until it tells again there is no ledger."""
    msdk.train(tiny(), tmp_path / "run")
    file = tmp_path / "run/ledger.json"
    log = LedgerTracker().open(tmp_path / "run", tiny())
    log.rewind(4)
    assert json.loads(file.read_text())["iteration"] == 4
    file.write_text(json.dumps({**json.loads(file.read_text()), "iteration": 5}))
    log.rewind(int(latest(tmp_path / "run").name))
    assert not file.exists()
    log.rewind(4)


def test_what_every_run_has_is_not_named():
    """Twice the same lines would be told, so it is refused."""
    with pytest.raises(RecipeError, match=r"trackers\.1 +every run has the tracker 'ledger': leave it out"):
        tiny('trackers=[{name="told"}, {name="ledger"}]')


def test_images_are_taken(tmp_path):
    """The files of numbers leave images alone."""
    for tracker in (JSONL(), LedgerTracker()):
        log = tracker.open(tmp_path, tiny())
        log.image("samples", 1, torch.zeros(3, 4, 4, dtype=torch.uint8))
        log.close()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("folder", ["../outside", "/etc/x", "", "checkpoints", "a/b", "samples"])
def test_event_files_stay_in_a_folder_of_their_own(folder):
    """A recipe, which can come from a stranger, does not say where else files are written."""
    with pytest.raises(RecipeError, match=r"trackers\.0\.folder"):
        tiny(f'trackers=[{{name="tensorboard",folder="{folder}"}}]')
