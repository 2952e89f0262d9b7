"""Promises of training on several processes: any number of them trains the same run."""

import json
import os
import signal
import warnings

import attrs
import pytest
import torch
from commands import command, torchrun
from hypothesis import given, settings
from hypothesis import strategies as st
from parity import EVERYTHING, STILL, assert_same, trained
from processes import processes
from torch.nn.parallel import DistributedDataParallel

import msdk
from msdk.distributed import Rank, this_rank, together
from msdk.errors import ElsewhereError, PartError, RunError
from msdk.runs import latest, load_checkpoint
from msdk.training import summing
from msdk.training.dealing import deal
from recipes import tiny

OBJECTIVE = ("training.objective={name='uncertainty'}", "training.stage_draw=uniform")


@given(
    stages=st.lists(st.integers(0, 4), min_size=1, max_size=6).flatmap(
        lambda few: st.tuples(st.just(few), st.sampled_from([1, 2, 3]), st.sampled_from([1, 2, 4]))
    )
)
@settings(max_examples=60, deadline=None)
def test_every_image_is_dealt_once(stages):
    """Ranks differ by at most one image per stage, run the same stages in each micro-batch, and read what is theirs."""
    few, parts, count = stages
    batch = torch.tensor(few * count * parts)
    hands = [deal(batch, Rank(index, count), parts) for index in range(count)]
    everyone = torch.ones(0, dtype=torch.int64)
    for hand in hands:
        counted = torch.ones(len(hand.images), dtype=torch.bool) if hand.counted is None else hand.counted
        everyone = torch.cat([everyone, hand.images[counted]])
        assert torch.equal(hand.images[counted], hand.draws[counted])
        assert set(hand.images.tolist()) == set(hand.images[counted].tolist())
        assert int(counted.sum()) == len(batch) // count
    assert sorted(everyone.tolist()) == list(range(len(batch)))
    for part in zip(*(hand.draws.split(list(hand.sizes)) for hand in hands), strict=True):
        assert len({tuple(batch[own].unique().tolist()) for own in part}) == 1
    for stage in range(5):
        own = [
            int((batch[hand.images] == stage)[slice(None) if hand.counted is None else hand.counted].sum())
            for hand in hands
        ]
        assert max(own) - min(own) <= parts


def test_what_is_repeated_does_not_count():
    """Who lacks an image of a stage that others have runs it on the first of its own, which counts for nothing."""
    lacks, has = (deal(torch.tensor([0, 0, 0, 1]), Rank(index, 2)) for index in range(2))
    assert (lacks.images.tolist(), lacks.draws.tolist()) == ([0, 2, 0], [0, 2, 3])
    assert lacks.counted.tolist() == [True, True, False]
    assert (has.images.tolist(), has.counted) == ([1, 3], None)


@pytest.mark.parametrize(
    ("count", "steps", "settings"),
    [
        (4, 20, EVERYTHING),
        (2, 20, ("training.mixed=false",)),
        (2, 8, OBJECTIVE),
    ],
    ids=["everything", "absent-stages", "objective"],
)
def test_any_number_of_processes_trains_the_same_run(tmp_path, monkeypatch, count, steps, settings):
    """Weights, averages and losses of one process, though most gradients are sent while others are computed."""
    monkeypatch.setattr(summing, "BUCKET", 2**15)
    recipe = tiny(STILL, *settings, "training.warmup=0", "training.batch_size=8")
    one = trained(recipe, tmp_path, steps)
    for found in processes(count, lambda: trained(recipe, tmp_path, steps), tmp_path):
        assert_same(found, one)
        assert found.sent > 2 * (steps - 3)


def test_plain_data_parallelism_trains_another_run(tmp_path):
    """The control: torch's DDP halves what one of two processes contributes, and moves what none needed by zeros."""

    def gradients():
        with together(this_rank()) as group:
            torch.manual_seed(0)
            decoders = torch.nn.ModuleList(torch.nn.Linear(1, 1, bias=False) for _ in range(3))
            plain = DistributedDataParallel(Chosen(decoders), find_unused_parameters=True)
            stage = group.rank.index  # each has images of its own stage alone; the third one has none
            plain(torch.ones(1, 1), stage).sum().backward()
            return [decoder.weight.grad for decoder in decoders]

    for found in processes(2, gradients, tmp_path):
        assert found is not None
        assert [None if grad is None else float(grad) for grad in found] == [0.5, 0.5, None]


class Chosen(torch.nn.Module):
    """Decoders, of which each call runs one."""

    def __init__(self, decoders):
        super().__init__()
        self.decoders = decoders

    def forward(self, x, stage):
        return self.decoders[stage](x)


def test_a_run_goes_on_with_another_number_of_processes(tmp_path):
    """Two processes train, one goes on: the metrics and the weights are those of one process all along."""
    recipe = tiny(STILL, "training.iterations=6", "training.batch_size=8")
    half = attrs.evolve(recipe, training=attrs.evolve(recipe.training, iterations=3))
    one = msdk.train(recipe, tmp_path / "one", device="cpu")
    found = processes(2, lambda: msdk.train(half, tmp_path / "two", device="cpu").images_by_stage, tmp_path)
    assert found[0] == found[1]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that iterations changed is said
        two = msdk.train(recipe, tmp_path / "two", device="cpu", resume=True)
    assert two.images_by_stage == one.images_by_stage
    assert two.last.loss == pytest.approx(one.last.loss, rel=1e-4)
    ours, theirs = (load_checkpoint(latest(tmp_path / name)) for name in ("one", "two"))
    for name, weight in ours.model.items():
        torch.testing.assert_close(theirs.model[name], weight, rtol=1e-3, atol=1e-5)


def test_a_signal_to_one_process_stops_all_at_one_step(tmp_path):
    """Whichever of them is warned, all finish the same step, and the first one saves it."""
    recipe = tiny(STILL, "training.iterations=50", "training.batch_size=8")

    def warned(step):
        if this_rank().index == 1 and step.iteration == 2:
            os.kill(os.getpid(), signal.SIGUSR1)

    def trained():
        result = msdk.train(recipe, tmp_path / "run", device="cpu", progress=warned)
        return result.last.iteration, result.interrupted

    first, second = processes(2, trained, tmp_path)
    assert first == second
    assert 3 <= first[0] <= 5
    assert first[1] == signal.SIGUSR1
    assert load_checkpoint(latest(tmp_path / "run")).iteration == first[0]


def test_a_process_that_dies_ends_the_others_in_words(tmp_path):
    """The others do not hang: they say that one is gone, and what was saved is there."""
    recipe = tiny(STILL, "training.iterations=50", "training.batch_size=8", "training.checkpoint_every=2")

    def dying(step):
        if this_rank().index == 1 and step.iteration == 3:
            os._exit(9)

    def trained():
        try:
            msdk.train(recipe, tmp_path / "run", device="cpu", progress=dying)
        except RunError as error:
            return str(error)

    told, nothing = processes(2, trained, tmp_path)
    assert nothing is None
    assert "another process of this run ended" in told
    assert "--resume" in told
    assert load_checkpoint(latest(tmp_path / "run")).iteration == 2


@pytest.mark.parametrize("batch", [8, 7])
def test_processes_that_cannot_train_one_run_are_told(tmp_path, monkeypatch, batch):
    """Other data in one of them, or a batch that does not go round: one tells, none hangs, no folder is made."""
    recipe = tiny(STILL, f"training.batch_size={batch}")
    real = type(recipe.data).open

    def other_data(self):
        source = real(self)
        source.digest = "other"
        return source

    def trained():
        if this_rank().index:
            monkeypatch.setattr(type(recipe.data), "open", other_data)
        try:
            msdk.train(recipe, tmp_path / "run", device="cpu")
        except RunError as error:
            return f"elsewhere: {error}" if isinstance(error, ElsewhereError) else str(error)
        except PartError as error:
            return str(error)

    told, other = processes(2, trained, tmp_path)
    if batch == 7:
        assert "training.batch_size is 7, which cannot be cut evenly into 2 processes" in told
        assert other.startswith("elsewhere")
    else:
        assert told.startswith("data of process 1 is other, but that of process 0 is ")
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_torchrun_trains(tmp_path):
    """The whole command, in two processes of torchrun: edges, losses and images of one, told once."""
    settings = ["recipes/digits/multistage.toml", "--set", "training.iterations=4", "--set", "training.log_every=2"]
    settings += ["--set", "training.batch_size=8", "--device", "cpu", "--no-cache"]
    two, (one, _) = (
        torchrun("train", *settings, "--out", tmp_path / "two"),
        command("train", *settings, "--out", tmp_path / "one"),
    )
    assert two.stdout.count("trained 4 iterations") == one.count("trained 4 iterations") == 1
    ours, theirs = (
        [json.loads(line) for line in (tmp_path / name / "metrics.jsonl").read_text().splitlines()]
        for name in ("one", "two")
    )
    assert [line["images_by_stage"] for line in ours] == [line["images_by_stage"] for line in theirs]
    assert [line["loss"] for line in theirs] == pytest.approx([line["loss"] for line in ours], rel=1e-3)
