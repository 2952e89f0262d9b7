"""Promises of averages: several are kept, resumed and shared by processes; others are made of snapshots."""

import json

import pytest
import torch
from commands import quick
from processes import processes

import msdk
from msdk.averages.power import Power
from msdk.distributed import this_rank, together
from msdk.errors import RecipeError, RunError
from msdk.runs import latest, load_checkpoint
from msdk.runs.snapshots import snapshots
from msdk.surgery import average
from msdk.training import train
from msdk.training.beginning import train_here
from recipes import tiny

SHORT = ("training.batch_size=4", "training.lr=1e-2", "training.warmup=0", "training.clip_norm=0")
TWO = "training.averages=[{name='power', length=0.05}, {name='power', length=0.15}]"
OTHER = "training.averages=[{name='power', length=0.09}]"


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """40 steps with two averages, and a snapshot after every fourth one."""
    folder = tmp_path_factory.mktemp("run")
    train(tiny(*SHORT, TWO, "training.iterations=40", "training.snapshot_every=4"), folder / "two")
    train(tiny(*SHORT, OTHER, "training.iterations=40"), folder / "other")
    return folder


def test_an_average_made_afterwards_is_the_one_kept_on_the_way(run, tmp_path):
    """Another length, of snapshots of two: much nearer to the average itself than either of the two, or the weights."""
    made = average(run / "two", 0.09, tmp_path / "made")
    found, wanted = load_checkpoint(latest(made)).ema, load_checkpoint(latest(run / "other")).ema
    kept = load_checkpoint(latest(run / "two"))

    def distance(one):
        return sum(float((one[name].double() - value.double()).square().sum()) for name, value in wanted.items()) ** 0.5

    first, second = kept.ema, {name.removeprefix("1/"): value for name, value in kept.averages.items()}
    second = {name: second[name] for name in wanted}
    assert distance(found) < 0.05 * min(map(distance, (first, second, kept.model)))
    weights = msdk.load_run(made).network.state_dict()
    assert all(torch.equal(weights[name], value) for name, value in found.items())
    assert json.loads((made / "lock.json").read_text())["forked_from"][0]["average"] == "power, length 0.09"


def test_a_kept_length_is_given_back(run, tmp_path):
    """The length of an average that was kept, at the time of a snapshot, is that average."""
    made = average(run / "two", 0.15, tmp_path / "made")
    kept = load_checkpoint(latest(run / "two")).averages
    for name, value in load_checkpoint(latest(made)).ema.items():
        torch.testing.assert_close(value, kept[f"1/{name}"], rtol=1e-5, atol=1e-6)


def test_averages_are_resumed(run, tmp_path):
    """Stopped in the middle and gone on with: every average bit for bit, and the snapshots too."""
    settings = (*SHORT, TWO, "training.snapshot_every=4")
    train(tiny(*settings, "training.iterations=18"), tmp_path / "run")
    train(tiny(*settings, "training.iterations=40"), tmp_path / "run", resume=True)
    whole, found = (load_checkpoint(latest(folder)) for folder in (run / "two", tmp_path / "run"))
    assert len(whole.averages) >= len(whole.ema) > 0
    for part in ("ema", "averages"):
        for name, value in getattr(whole, part).items():
            assert torch.equal(getattr(found, part)[name], value), name
    ours, theirs = (snapshots(folder, 40) for folder in (run / "two", tmp_path / "run"))
    assert list(ours) == list(theirs) == list(range(4, 41, 4))
    assert all(ours[step].read_bytes() == theirs[step].read_bytes() for step in ours)


@pytest.mark.parametrize("parallel", ["ddp", "fsdp"])
def test_processes_share_averages(tmp_path, parallel):
    """Two processes keep the averages and snapshots of one, to float32's rounding."""
    still = "decoders=[" + ", ".join(f'{{name="ddpmpp", channels={width}, dropout=0.0}}' for width in (12, 8, 4)) + "]"
    settings = (*SHORT, TWO, still, "training.iterations=4", "training.snapshot_every=2")
    settings = (*settings, f"training.parallel={parallel}")

    def shared():
        with together(this_rank()) as group:
            train_here(tiny(*settings), tmp_path / "shared", group=group)

    train(tiny(*settings), tmp_path / "one")
    processes(2, shared, tmp_path)
    one, two = (load_checkpoint(latest(tmp_path / name)) for name in ("one", "shared"))
    for part in ("ema", "averages"):
        assert getattr(one, part).keys() == getattr(two, part).keys()
        for name, value in getattr(one, part).items():
            torch.testing.assert_close(getattr(two, part)[name], value, rtol=1e-3, atol=1e-4)
    made = [average(tmp_path / name, 0.1, tmp_path / f"{name}-made") for name in ("one", "shared")]
    first, second = (load_checkpoint(latest(each)).ema for each in made)
    for name, value in first.items():
        torch.testing.assert_close(second[name], value, rtol=1e-3, atol=1e-4)


def test_mistakes_are_told(run, tmp_path, capsys, monkeypatch):
    """No snapshots, no such checkpoint, a length out of range, an existing folder; two ways to say one thing."""
    for arguments, told in (
        ((run / "other", "--length", "0.1"), "has no snapshots"),
        ((run / "two", "--length", "0.3"), "above 0 and below 0.2887"),
        ((run / "two", "--length", "0.1", "--checkpoint", "7"), "has no checkpoint of iteration 7. Known: 40"),
        ((tmp_path, "--length", "0.1"), "is not a run folder"),
    ):
        code, _, err = quick(capsys, monkeypatch, "stage", "ema", *arguments, "--out", tmp_path / "made")
        assert (code, told in " ".join(err.split())) == (2, True), err
    with pytest.raises(RunError, match="exists"):
        average(run / "two", 0.1, run / "other")
    assert tiny(OTHER, "training.ema_half_life=100").training.kept_averages == (Power(length=0.09),)
    with pytest.raises(RecipeError, match=r"keeps none"):
        tiny("training.averages=[]", "training.snapshot_every=5")


def test_none_are_kept_where_none_are_named(tmp_path):
    """`averages = []` is `ema_decay = 0`."""
    train(tiny(*SHORT, "training.averages=[]", "training.iterations=2"), tmp_path / "run")
    assert load_checkpoint(latest(tmp_path / "run")).ema == {}
    assert tiny("training.averages=[]").training.kept_averages == tiny("training.ema_decay=0").training.kept_averages


def test_the_first_update_takes_the_weights():
    """A power function's average begins with the first step, not with the initial weights."""
    assert Power(length=0.1).decay(1, 64) == 0
