"""Promises of checkpoints in shards: whole or not there, read by any number of processes, gathered to files."""

import json
import os
import re
import shutil
import tempfile
import warnings
from pathlib import Path

import pytest
import torch
import torch.distributed.fsdp  # once, and not in each process that is forked
from commands import quick
from hypothesis import given, settings
from hypothesis import strategies as st
from parity import STILL
from processes import processes
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch.distributed import checkpoint as dcp
from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageReader

import msdk
from msdk.denoiser.weights import read_weights
from msdk.distributed import this_rank
from msdk.errors import RunError
from msdk.runs import checkpoints, fork, latest, load_checkpoint
from msdk.runs.shards import gather
from recipes import tiny

PARTS = ("model", "ema", "optimizer")


def recipe(iterations, parallel="fsdp", *more):
    settings = (f"training.iterations={iterations}", f"training.parallel={parallel}", "training.batch_size=8")
    return tiny(STILL, *settings, "training.log_every=1", "sampling.images=1", *more)


def train(count, run, *given, resume=True, progress=None):
    """Trains a run on so many processes; what the first of them says where they cannot go on."""

    def work():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that iterations changed is said
            msdk.train(recipe(*given), run, device="cpu", resume=resume, progress=progress)

    if count == 1:
        work()
    else:
        processes(count, work, run.parent)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run of two processes, with a checkpoint in shards after 2 steps."""
    run = tmp_path_factory.mktemp("shards") / "run"
    train(2, run, 2)
    return run


@pytest.fixture
def run(trained, tmp_path):
    return shutil.copytree(trained, tmp_path / "run")


def same(one, other, **close):
    ours, theirs = (load_checkpoint(latest(each)) for each in (one, other))
    assert (ours.iteration, ours.images_by_stage) == (theirs.iteration, theirs.images_by_stage)
    for part in PARTS:
        mine, others = getattr(ours, part), getattr(theirs, part)
        assert mine.keys() == others.keys()
        for name, value in mine.items():
            torch.testing.assert_close(others[name], value, **(close or {"rtol": 0, "atol": 0}))


def test_any_number_of_processes_goes_on_from_shards(run, tmp_path):
    """Shards of 2 go on in shards of 4, those with whole weights in 2, those on 1: the run that one process trains."""
    train(1, tmp_path / "one", 5)
    train(4, run, 3)
    assert {len(list((latest(run) / part).iterdir())) for part in PARTS} == {4}
    train(2, run, 4, "ddp")
    assert {path.name for path in latest(run).iterdir()} == {*(f"{part}.safetensors" for part in PARTS), "state.json"}
    train(1, run, 5)
    same(run, tmp_path / "one", rtol=1e-3, atol=1e-5)
    lines = [(each / "metrics.jsonl").read_text().splitlines() for each in (run, tmp_path / "one")]
    seen, others = ([json.loads(line)["images_by_stage"] for line in each] for each in lines)
    assert seen == others


def test_going_on_in_shards_is_not_to_have_stopped(run, tmp_path):
    """Two processes that train 4 steps, and two that train 2 and then 2: bit for bit."""
    train(2, tmp_path / "whole", 4)
    train(2, run, 4)
    same(run, tmp_path / "whole")


def test_shards_are_read_wherever_weights_are(run, tmp_path, capsys, monkeypatch):
    """Sampling (a stage at a time too), forking and torch's reader take them as they are; gathering changes none."""
    where = latest(run)
    kept = load_checkpoint(where)
    drawn = {offload: msdk.load_run(run, offload=offload) for offload in (False, True)}
    x = torch.zeros(1, *drawn[True].shape)
    torch.testing.assert_close(*(denoiser(x, 0.2) for denoiser in drawn.values()))
    forked = fork(run, recipe(2), lambda name: [name], tmp_path / "fork")
    found = {name: torch.empty_like(value) for name, value in kept.model.items()}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that there is one process
        dcp.load(found, storage_reader=HuggingFaceStorageReader(str(where / "model")), no_dist=True)
    code, out, err = quick(capsys, monkeypatch, "stage", "gather", run)
    assert (code, "made model.safetensors, optimizer.safetensors, ema.safetensors" in out + err) == (0, True)
    assert {path.name for path in where.iterdir()} == {*(f"{part}.safetensors" for part in PARTS), "state.json"}
    same(run, forked)
    for name, value in load_file(where / "model.safetensors").items():
        assert torch.equal(value, kept.model[name])
        assert torch.equal(value, found[name])
    origin = json.loads((forked / "lock.json").read_text())["forked_from"][0]["sha256"]
    again = fork(run, recipe(2), lambda name: [name], tmp_path / "again")
    assert json.loads((again / "lock.json").read_text())["forked_from"][0]["sha256"] == origin
    code, out, err = quick(capsys, monkeypatch, "stage", "gather", run, "--checkpoint", "2")
    assert (code, "has no shards" in out + err) == (0, True)
    code, _, err = quick(capsys, monkeypatch, "stage", "gather", run, "--checkpoint", "7")
    assert (code, "no checkpoint of iteration 7. Known: 2." in err) == (2, True)


@given(shape=st.lists(st.integers(0, 7), max_size=3), count=st.integers(1, 5), seed=st.integers(0, 9))
@settings(max_examples=50, deadline=None)
def test_rows_of_any_cut_join_again(shape, count, seed):
    """What is cut into rows for any number of processes, of which the last ones may have none, is read as it was."""
    value = torch.randn(shape, generator=torch.Generator().manual_seed(seed))
    each = -(-shape[0] // count) if shape else 1
    with tempfile.TemporaryDirectory() as folder:
        for index in range(count):
            first = min(index * each, shape[0]) if shape else 0
            own = value[first : first + each] if shape else value
            kept = {"x": own.contiguous()} if not index or (shape and len(own)) else {}
            told = {"x": {"saved_offsets": [first, 0, 0][: len(shape)]}} if kept else {}
            file = Path(folder) / f"shard-{index + 1:05d}-of-{count:05d}.safetensors"
            save_file(kept, file, {"DCP_SHARDING_INFO": json.dumps(told)})
        found = read_weights(Path(folder))
    assert torch.equal(found["x"], value)


def _missing(folder):
    (folder / "shard-00001-of-00002.safetensors").unlink()


def _cut(folder):
    file = folder / "shard-00002-of-00002.safetensors"
    os.truncate(file, file.stat().st_size - 8)


def _other(folder):
    shutil.copy(folder / "shard-00001-of-00002.safetensors", folder / "shard-00001-of-00001.safetensors")


def _rewritten(change):
    def damage(folder):
        file = folder / "shard-00002-of-00002.safetensors"
        tensors = load_file(file)
        with safe_open(file, "pt") as opened:
            offsets = json.loads(opened.metadata()["DCP_SHARDING_INFO"])
        name = max(tensors, key=lambda key: tensors[key].numel())
        tensors, told = change(tensors, offsets, name)
        save_file(tensors, file, {"DCP_SHARDING_INFO": told})

    return damage


def _row(first):
    def change(tensors, offsets, name):
        offsets[name]["saved_offsets"][0] = first
        return tensors, json.dumps(offsets)

    return _rewritten(change)


DAMAGE = {
    "missing": (_missing, "shard-00001-of-00002.safetensors is missing"),
    "cut": (_cut, "is damaged"),
    "two numbers": (_other, "shards of two numbers of processes"),
    "twice": (_row(0), "the rows of .* go on with 0 instead of"),
    "gap": (_row(999), "the rows of .* go on with 999 instead of"),
    "no number": (_row("x"), "is damaged"),
    "no rows": (_rewritten(lambda tensors, offsets, name: (tensors, "{}")), "is damaged"),
    "deep": (_rewritten(lambda tensors, offsets, name: (tensors, "[" * 100_000)), "is damaged"),
    "no list": (_rewritten(lambda tensors, offsets, name: (tensors, json.dumps([1]))), "is damaged"),
    "dtype": (_rewritten(lambda tensors, offsets, name: ({**tensors, name: tensors[name].int()}, json.dumps(offsets))),
              "the rows of .* are not of one kind"),
}  # fmt: skip


@pytest.mark.parametrize("kind", DAMAGE)
def test_damaged_shards_are_refused_in_words(run, kind):
    """Missing, doubled or strange rows are told, whoever reads; gathering leaves them as they are."""
    damage, told = DAMAGE[kind]
    damage(latest(run) / "model")
    for how in (lambda: load_checkpoint(latest(run)), lambda: msdk.load_run(run, weights="raw"), lambda: gather(run)):
        with pytest.raises(RunError, match=rf"model( is damaged)?: .*{told}|{told}"):
            how()
    assert (latest(run) / "model").is_dir()


def test_numbers_that_are_not_finite_are_not_saved(tmp_path):
    """One in the rows of the second process alone is told by the first, and no checkpoint has it."""

    def work():
        def sick(step):
            if this_rank().index and step.iteration == 1:
                trainers[0].step.own[3].data.fill_(torch.nan)

        trainers = []
        made = msdk.training.loop.Trainer.__init__

        def init(self, *given, **settings):
            made(self, *given, **settings)
            trainers.append(self)

        msdk.training.loop.Trainer.__init__ = init
        try:
            msdk.train(recipe(3, "fsdp", "training.checkpoint_every=1"), tmp_path / "run", device="cpu", progress=sick)
        except RunError as error:
            return str(error)

    told, other = processes(2, work, tmp_path)
    assert re.search("not finite|the loss is nan", told)
    assert other
    assert [path.name for path in checkpoints(tmp_path / "run")] == ["00000001"]
