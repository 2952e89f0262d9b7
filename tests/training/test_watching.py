"""Promises of contact sheets and of what lines of metrics say of a step beside its loss."""

import json

import attrs
import numpy as np
import pytest
import torch
from parity import STILL
from PIL import Image
from processes import processes

import msdk
from msdk import trackers
from msdk.datasets.digits import Digits
from msdk.recipe.watching import watching_misfits
from msdk.runs import latest, load_checkpoint
from msdk.sampling.pictures import grid, to_pixels
from msdk.trackers.base import Log, Tracker
from msdk.training.loop import Trainer
from recipes import tiny

SHEETS = (STILL, "training.sample_every=2", "training.sample_images=3", "sampling.steps=2")
SHOWN = {}


@trackers.add("shown")
@attrs.frozen(kw_only=True)
class Shown(Tracker):
    """Keeps images, for tests."""

    def open(self, run_dir, recipe):
        return Pictures(run_dir)


class Pictures(Log):
    def __init__(self, run):
        self.shown = SHOWN.setdefault(run, {})

    def log(self, step, numbers):
        pass

    def image(self, name, step, image):
        assert (name, image.dtype, image.shape[0]) == ("samples", torch.uint8, 3)
        assert step not in self.shown
        self.shown[step] = image

    def rewind(self, step):
        for later in [at for at in self.shown if at > step]:
            del self.shown[later]

    def close(self):
        pass


def lines(run):
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def pixels(path):
    return np.asarray(Image.open(path)).astype(int)


def test_a_sheet_is_what_the_run_would_sample(tmp_path):
    """With the averages of then, by the recipe's sampler, steps and seeds; shown to trackers, and paid for apart."""
    options = (*SHEETS, "sampling.seed=5", 'sampler={name="heun"}', 'trackers=[{name="shown"}]', "training.lr=0.02")
    recipe, run = tiny(*options, "training.warmup=0", "training.ema_decay=0.5"), tmp_path / "run"
    msdk.train(recipe, run, device="cpu")
    assert sorted(path.name for path in (run / "sheets").iterdir()) == ["00000002.png", "00000004.png"]
    wanted = grid(to_pixels(msdk.sample(msdk.load_run(run), seeds=range(5, 8))))
    found = pixels(run / "sheets/00000004.png")
    assert np.array_equal(found, np.asarray(wanted))
    assert (found != pixels(run / "sheets/00000002.png")).any()
    assert SHOWN[run].keys() == {2, 4}
    assert np.array_equal(found, SHOWN[run][4].permute(1, 2, 0).numpy())
    calls = [0, 0, 0]
    for call in recipe.calls():
        calls[call.stage] += 2 * 3 * call.evaluations
    ledger = json.loads((run / "ledger.json").read_text())
    assert ledger["sampling"]["calls_by_stage"] == lines(run)[-1]["sampled_calls_by_stage"] == calls
    price = [2 * macs * each for macs, each in zip(ledger["macs_per_image_by_stage"], calls, strict=True)]
    assert ledger["sampling"]["flops_by_stage"] == price
    assert msdk.budget(run).ledger.as_json() == ledger


class KilledError(Exception):
    """Stands for SIGKILL."""


def test_sheets_leave_the_run_as_it_is(tmp_path):
    """Weights and losses of a run without; killed and gone on with, each is drawn once, and looks as if nothing was."""
    recipe = tiny(*SHEETS, "training.checkpoint_every=1", 'trackers=[{name="shown"}]')
    msdk.train(recipe, tmp_path / "whole", device="cpu")
    msdk.train(tiny(*SHEETS, "training.sample_every=0"), tmp_path / "plain", device="cpu")
    one, other = (load_checkpoint(latest(tmp_path / name)) for name in ("whole", "plain"))
    assert all(torch.equal(one.model[name], other.model[name]) for name in one.model)
    assert all(torch.equal(one.ema[name], other.ema[name]) for name in one.ema)
    assert other.watched is None

    def end(step):
        if step.iteration == 3:
            raise KilledError

    with pytest.raises(KilledError):
        msdk.train(recipe, tmp_path / "run", device="cpu", progress=end)
    msdk.train(recipe, tmp_path / "run", device="cpu", resume=True)
    assert SHOWN[tmp_path / "run"].keys() == SHOWN[tmp_path / "whole"].keys() == {2, 4}
    assert load_checkpoint(latest(tmp_path / "run")).watched == one.watched
    assert np.array_equal(*(pixels(tmp_path / name / "sheets/00000004.png") for name in ("run", "whole")))


@pytest.mark.parametrize(
    "settings",
    [("training.parallel=ddp",), ("training.parallel=fsdp", 'sampler={name="pf-ode", tolerance=0.3}')],
    ids=["ddp", "fsdp"],
)
def test_processes_share_a_sheet(tmp_path, settings):
    """An uneven number of images; of weights in shards also by a sampler whose calls an image decides."""
    recipe = tiny(*SHEETS, *settings, "training.iterations=2", "training.clip_norm=0")
    processes(2, lambda: msdk.train(recipe, tmp_path / "two", device="cpu").last.loss, tmp_path)
    msdk.train(recipe, tmp_path / "one", device="cpu")
    one, two = (pixels(tmp_path / name / "sheets/00000002.png") for name in ("one", "two"))
    assert np.abs(one - two).max() <= 2
    told = [lines(tmp_path / name)[-1]["gradient_norm"] for name in ("one", "two")]
    assert told[0] == pytest.approx(told[1], rel=1e-4)


def test_what_is_no_picture_has_no_sheet(monkeypatch):
    """It is told of the recipe."""
    recipe = tiny("training.sample_every=2")
    monkeypatch.setattr(Digits, "shape", property(lambda data: (2, 64)))
    (problem,) = watching_misfits(recipe)
    assert problem.path == "training.sample_every"
    assert "makes contact sheets, and [2, 64] is no picture: leave it out" in str(problem)


@pytest.mark.parametrize("most", [0.0, 0.05])
def test_the_norm_is_that_of_the_last_gradient(tmp_path, most):
    """Before it was clipped, of all weights; measured at lines alone where nothing is clipped."""
    recipe = tiny(f"training.clip_norm={most}", "training.log_every=2", "training.optimizer={name='sgd'}")
    trainer = Trainer(recipe, tmp_path, recipe.data.open(), [], "cpu")
    step, norms = trainer.step, []
    update = step.update

    def updated(iteration):
        grads = [weight.grad.clone() for weight in step.own if weight.grad is not None]
        norms.append(torch.cat([grad.flatten() for grad in grads]).norm().item())
        update(iteration)

    step.update = updated
    trainer.advance()
    assert (step.gradient_norm() is None) == (most == 0)
    trainer.advance()
    assert step.gradient_norm() == pytest.approx(norms[-1], rel=1e-5)


def test_lines_and_reports_tell_of_it(tmp_path):
    """Seconds that steps waited for images, the most memory; held-out losses, and what looks and sheets took."""
    run, looks = tmp_path / "run", ("data.held_out=0.1", "training.validate_every=2", "training.validate_images=8")
    msdk.run(tiny(*SHEETS, *looks, "training.iterations=2", "training.log_every=1", "sampling.images=2"), run)
    told = lines(run)
    assert [line["iteration"] for line in told] == [1, 2]
    assert all(0 <= line["data_seconds"] < line["seconds"] for line in told)
    assert all(10**7 < line["memory_peak_bytes"] < 10**12 for line in told)
    assert "cuda_peak_bytes" not in told[0]
    report, page = (run / "report.md").read_text(), (run / "report.html").read_text()
    assert all(f"{loss:.4f} |" in report for loss in told[-1]["held_out_loss_by_stage"])
    for sentence in ("more: 24 forward passes.", "more: 6 network calls."):
        assert sentence in report
        assert sentence in page
