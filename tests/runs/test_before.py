"""Run folders of before: what an older msdk trained is read, drawn from and trained on by this one.

`before/` was trained by commit e937def2515894d3363e6ca0f395a525646deb27, the last one before modules moved into rooms,
on a CPU with one thread and torch 2.14.1, from the recipe in it: 4 iterations of 8 digits, two stages, AdamW, averaged
weights. Only the path of the command was taken out of its lock.json. The same commit made `before.safetensors`: the
pixels of `msdk sample before --seeds 0-1 --steps 3`; the network's weights, in the order of their names, after `msdk
train before/recipe.toml --out before --resume --set training.iterations=6`; and the pixels drawn then.
"""

import json
import shutil
from pathlib import Path

import pytest
import torch
from commands import command
from safetensors.torch import load_file

import msdk
from msdk.runs import latest, load_checkpoint

HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def expected():
    return load_file(HERE / "before.safetensors")


@pytest.fixture
def before(tmp_path):
    """A copy that may be written to."""
    return shutil.copytree(HERE / "before", tmp_path / "before")


def drawn(run, tmp_path):
    out = tmp_path / "drawn.safetensors"
    command("sample", run, "--seeds", "0-1", "--steps", "3", "--device", "cpu", "--out", out)
    return load_file(out)["images"]


def test_it_samples_to_the_same_pixels(before, tmp_path, expected):
    """An image depends on the run and its seed, not on the version that draws it."""
    assert torch.equal(drawn(before, tmp_path), expected["pixels"])


def test_it_resumes_as_it_would_have_then(before, tmp_path, expected):
    """Two more steps give the weights that they gave, and the averages draw the same pixels."""
    resume = ["--resume", "--device", "cpu", "--set", "training.iterations=6"]
    command("train", before / "recipe.toml", "--out", before, *resume)
    after = load_checkpoint(latest(before))
    assert after.iteration == 6
    weights = torch.cat([after.model[name].flatten() for name in sorted(after.model)])
    torch.testing.assert_close(weights, expected["later_weights"], rtol=0, atol=1e-6)
    assert torch.equal(drawn(before, tmp_path), expected["later_pixels"])


def test_its_ledger_is_shown_again(before):
    """`msdk budget RUN` reads what training spent then."""
    (shown,) = json.loads(command("budget", before, "--json")[0])
    new = dict.fromkeys(("validation", "sampling", "stopping"))  # of which it had nothing then
    assert shown["ledger"] == json.loads((HERE / "before" / "ledger.json").read_text()) | new
    assert shown["params"]["total"] == sum(each.numel() for each in msdk.load_run(before).network.parameters())
