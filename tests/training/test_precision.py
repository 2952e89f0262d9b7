"""Promises of training in float16: scaled gradients, steps that are left out alike everywhere, exact resumption."""

import json

import attrs
import pytest
import torch
from processes import processes
from torch.utils._python_dispatch import TorchDispatchMode

import msdk
from msdk.distributed import this_rank, together
from msdk.errors import RunError
from msdk.runs import latest, load_checkpoint
from msdk.training import step
from msdk.training.loop import Trainer
from recipes import tiny

HALF = "training.precision=fp16"


def brisk(recipe, trained, device, *, start=2.0**20, interval=2):
    """A scaler whose scale changes within a few steps, down and up."""
    scaler = torch.amp.GradScaler(device.type, init_scale=start, growth_interval=interval)
    scaler.scale(torch.zeros(()))
    return scaler


def state(run):
    return json.loads((latest(run) / "state.json").read_text())["optimizer"]


def test_float16_resumes_exactly(tmp_path, monkeypatch):
    """Training 2N steps is training N and resuming for N, with the scale of the gradients, which moves meanwhile."""
    monkeypatch.setattr(step, "scaler_for", brisk)
    seen = []

    def trained(name, steps):
        recipe = tiny(HALF, f"training.iterations={steps}", "training.accumulation=2")
        return msdk.train(recipe, tmp_path / name, resume=True, progress=seen.append)

    result = trained("whole", 6)
    trained("halves", 3)
    assert state(tmp_path / "halves")["scaler"]["scale"] != 2.0**20
    trained("halves", 6)
    assert torch.tensor(result.last.loss).isfinite()
    line = json.loads((tmp_path / "whole" / "metrics.jsonl").read_text().splitlines()[-1])
    assert line["loss_scale"] == state(tmp_path / "whole")["scaler"]["scale"]
    assert state(tmp_path / "whole") == state(tmp_path / "halves")
    whole, halves = (load_checkpoint(latest(tmp_path / name)) for name in ("whole", "halves"))
    for part in ("model", "ema", "optimizer"):
        ours, theirs = getattr(whole, part), getattr(halves, part)
        assert all(value.dtype == torch.float32 and torch.equal(value, theirs[key]) for key, value in ours.items())


def test_the_scale_is_none_of_the_gradients(tmp_path):
    """The optimiser and clipping see gradients as they are: of float32 weights, whatever the scale."""
    found = []
    for scale in (2.0**4, 2.0**10):
        recipe = tiny(HALF)
        trainer = Trainer(recipe, tmp_path, recipe.data.open(), [], "cpu")
        trainer.step.scaler = brisk(recipe, None, torch.device("cpu"), start=scale)
        trainer.advance()
        found.append([weight.grad for weight in trainer.step.trained.parameters() if weight.grad is not None])
        assert all(grad.dtype == torch.float32 for grad in found[-1])
        norm = torch.stack([grad.norm() for grad in found[-1]]).norm()
        assert norm <= recipe.training.clip_norm * 1.001
    for ours, theirs in zip(*found, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0.05, atol=1e-3)


@pytest.mark.parametrize("more", [(), ("training.optimizer={name='sgd'}",), ("training.sanitize=true",)])
def test_an_overflow_changes_nothing(tmp_path, more):
    """Weights and moments stay, as does the optimiser's count; the scale is halved, and the next step is the next."""
    recipe = tiny(HALF, *more)
    trainer = Trainer(recipe, tmp_path, recipe.data.open(), [], "cpu")
    trainer.advance()
    before = trainer.state()
    trainer.step.scaler.load_state_dict({**trainer.step.scaler.state_dict(), "scale": 1e38})
    trainer.advance()
    after = trainer.state()
    for part in ("model", "optimizer"):
        ours, theirs = getattr(before, part), getattr(after, part)
        assert ours
        assert all(torch.equal(ours[key], theirs[key]) for key in ours)
    assert after.iteration == 2
    assert after.optimizer_numbers["scaler"]["scale"] == pytest.approx(5e37)


def test_a_scale_that_cannot_be_is_told(tmp_path):
    """A damaged scale is named with its file, not multiplied with."""
    run = msdk.train(tiny(HALF, "training.iterations=2"), tmp_path / "run").run_dir
    file = latest(run) / "state.json"
    content = json.loads(file.read_text())
    content["optimizer"]["scaler"]["scale"] = 0.0
    file.write_text(json.dumps(content))
    with pytest.raises(RunError, match=r"state\.json cannot be used: the scale of its gradients is"):
        msdk.train(tiny(HALF), run, resume=True)


def overflowing_in_one(folder):
    """Weights, scale and steps after three steps, of which the second overflows in the last process alone."""
    with together(this_rank()) as group:
        recipe = tiny(HALF)
        trainer = Trainer(recipe, folder, recipe.data.open(), [], "cpu", group)
        scales, last = [], group.rank.index == group.rank.count - 1
        weight = trainer.step.denoiser.network.encoder(0).stem.weight
        weight.register_hook(lambda grad: grad + torch.inf if last and trainer.iteration == 1 else grad)
        for _ in range(3):
            trainer.advance()
            scales.append(trainer.step.scaler.get_scale())
        return trainer.step.trained.state_dict(), scales, attrs.asdict(trainer.state())["optimizer"]


def test_processes_leave_out_the_same_step(tmp_path):
    """A gradient that overflows in one process ends the step in all of them, since it is the sum that counts."""
    ours, theirs = processes(2, lambda: overflowing_in_one(tmp_path / "run"), tmp_path)
    assert ours[1] == theirs[1]
    assert ours[1][1] == ours[1][0] / 2
    for one, other in ((ours[0], theirs[0]), (ours[2], theirs[2])):
        assert all(torch.equal(one[key], other[key]) for key in one)


class Reads(TorchDispatchMode):
    """Counts what makes the host look at a number of a tensor."""

    found = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.found += func is torch.ops.aten._local_scalar_dense.default
        return func(*args, **(kwargs or {}))


def test_a_scaled_step_waits_for_no_device(tmp_path):
    """Whether gradients overflow is looked at where they are: the host never asks."""
    recipe = tiny(HALF, "training.sanitize=true", "training.clip_norm=0.1")
    trainer = Trainer(recipe, tmp_path, recipe.data.open(), [], "cpu")
    trainer.advance()
    for weight in trainer.step.trained.parameters():
        weight.grad = torch.ones_like(weight)
    with Reads() as reads:
        trainer.step.update(1)
    assert reads.found == 0
    with reads:
        torch.ones(()).item()
    assert reads.found == 1


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_everything_lies_channels_last(tmp_path, precision):
    """Weights, averages and gradients, and what every convolution takes and gives, also of a batch of mixed stages."""
    recipe = tiny(f"training.precision={precision}", "training.batch_size=16", "training.stage_draw=uniform")
    trainer = Trainer(recipe, tmp_path, recipe.data.open(), [], "cpu")
    seen = []

    def looked(_, given, output):
        seen.extend((*given, output))

    for part in trainer.step.denoiser.network.modules():
        if isinstance(part, torch.nn.Conv2d):
            part.register_forward_hook(looked)
    for _ in range(2):
        trainer.advance()
    weights = [weight for weight in trainer.step.trained.parameters() if weight.ndim == 4]
    kept = [average for average in trainer.step.ema.averages if average.ndim == 4]
    moments = [value for of in trainer.step.optimizer.state.values() for value in of.values() if value.ndim == 4]
    assert len(seen) > 40
    for tensor in (*weights, *kept, *moments, *(each for each in seen if each.ndim == 4)):
        assert tensor.is_contiguous(memory_format=torch.channels_last)
