"""Promises of training that diverges: no checkpoint of it, good ones kept, and a message that is true."""

import pytest
import torch
from safetensors.torch import load_file

import msdk
from msdk.errors import RunError
from msdk.runs import checkpoints
from msdk.training.loop import Trainer
from recipes import tiny


def test_what_diverges_is_not_saved(tmp_path):
    """Between log lines too: no checkpoint is written, and none is claimed."""
    recipe = tiny("training.lr=1e30", "training.warmup=0", "training.checkpoint_every=2", "training.log_every=100")
    with pytest.raises(RunError, match="No checkpoint was saved before"):
        msdk.train(recipe, tmp_path / "run")
    assert checkpoints(tmp_path / "run") == []


@pytest.mark.parametrize("every", [1, 100])
@pytest.mark.parametrize("where", ["weight", "average", "moment"])
def test_good_checkpoints_stay(tmp_path, monkeypatch, where, every):
    """One nan in a weight, an average or a moment stops the run at its next save; what was saved stays."""
    advance = Trainer.advance

    def poisoned(self):
        found = advance(self)
        if self.iteration == 3:
            parameter = next(self.step.denoiser.network.parameters())
            tensor = {
                "weight": parameter.data,
                "average": self.step.ema.averages[0],
                "moment": self.step.optimizer.state[parameter]["exp_avg"],
            }[where]
            tensor.view(-1)[0] = torch.nan
        return found

    msdk.train(tiny("training.iterations=2"), tmp_path / "run")
    monkeypatch.setattr(Trainer, "advance", poisoned)
    more = tiny("training.iterations=3", f"training.checkpoint_every={every}", "training.keep=1")
    with pytest.raises(RunError, match=r"not finite at iteration 3.*00000002 is from before, and finite"):
        msdk.train(more, tmp_path / "run", resume=True)
    (kept,) = checkpoints(tmp_path / "run")
    assert all(value.isfinite().all() for value in load_file(kept / "model.safetensors").values())


def test_steps_do_not_wait_for_the_device(tmp_path, monkeypatch):
    """What is finite is looked at when a checkpoint is saved, not at each step."""
    looks = []
    monkeypatch.setattr("msdk.training.loop.sick", lambda step: looks.append(step) or [])
    msdk.train(tiny("training.iterations=5", "training.checkpoint_every=3"), tmp_path / "run")
    assert len(looks) == 2
