"""Promises of stopping and starting again: whatever ends a run, or a process of it, the run is the same."""

import contextlib
import errno
import json
import os
import resource
import signal
from pathlib import Path

import attrs
import pytest
from processes import processes
from torch.distributed import TCPStore

import msdk
from msdk import distributed
from msdk.distributed import this_rank, together
from msdk.errors import ElsewhereError, GoneError, RunError
from msdk.runs import latest
from recipes import tiny

CLOCKS = ("seconds", "images_per_second", "data_seconds", "memory_peak_bytes")


def curve(run):
    """The lines of metrics.jsonl, without clocks."""
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [{key: value for key, value in line.items() if key not in CLOCKS} for line in lines]


class KilledError(Exception):
    """Stands for SIGKILL: nothing is written after it."""


def disturbed(recipe, run, ends):
    """Trains a run that ends at these steps, by a signal or by being killed, and goes on each time."""
    for at, killed in ends:

        def end(step, at=at, killed=killed):
            if step.iteration == at:
                if killed:
                    raise KilledError
                os.kill(os.getpid(), signal.SIGTERM)

        with contextlib.suppress(KilledError):
            msdk.train(recipe, run, device="cpu", resume=True, progress=end)
    return msdk.train(recipe, run, device="cpu", resume=True)


@pytest.mark.parametrize(("log_every", "checkpoint_every", "count"), [(3, 2, 1), (4, 3, 2)])
def test_the_curve_does_not_show_where_a_run_was_stopped(tmp_path, log_every, checkpoint_every, count):
    """Every line of metrics is the one of an undisturbed run, and each is there once; of several processes as well."""
    options = (f"training.log_every={log_every}", f"training.checkpoint_every={checkpoint_every}")
    recipe = tiny("training.iterations=9", *options)

    def both():
        with together(this_rank()):  # once: a store that ends is in the way of the next one
            again = disturbed(recipe, tmp_path / "run", [(1, False), (5, True), (6, False)])
            return again.images_by_stage == msdk.train(recipe, tmp_path / "whole", device="cpu").images_by_stage

    assert (processes(count, both, tmp_path) if count > 1 else [both()]) == [True] * count
    assert curve(tmp_path / "run") == curve(tmp_path / "whole")
    msdk.train(recipe, tmp_path / "one", device="cpu")
    losses = [[line["loss"] for line in curve(tmp_path / name)] for name in ("run", "one")]
    assert losses[0] == pytest.approx(losses[1], rel=1e-2)  # but for the masks of dropout


def test_a_finished_run_keeps_its_last_line(tmp_path):
    """Also where it is not due and the run goes on with nothing to do; made longer, it has the lines of a long run."""
    recipe = tiny("training.iterations=4", "training.log_every=3")
    msdk.train(recipe, tmp_path / "run", device="cpu")
    msdk.train(recipe, tmp_path / "run", device="cpu", resume=True)
    assert [line["iteration"] for line in curve(tmp_path / "run")] == [3, 4]
    longer = attrs.evolve(recipe, training=attrs.evolve(recipe.training, iterations=8))
    msdk.train(longer, tmp_path / "run", device="cpu", resume=True, warn=lambda text: None)
    msdk.train(longer, tmp_path / "whole", device="cpu")
    assert curve(tmp_path / "run") == curve(tmp_path / "whole")


def test_schedulers_may_say_it_twice(tmp_path):
    """SIGTERM after SIGUSR1 says nothing new, and saves; a second Ctrl-C stops at once."""
    recipe = tiny("training.iterations=40", "training.checkpoint_every=100")

    def warned(*signals):
        def tell(step):
            if step.iteration == 1:
                for signum in signals:
                    os.kill(os.getpid(), signum)

        return tell

    result = msdk.train(
        recipe, tmp_path / "run", device="cpu", progress=warned(signal.SIGUSR1, signal.SIGUSR1, signal.SIGTERM)
    )
    assert result.interrupted == signal.SIGUSR1
    assert int(latest(tmp_path / "run").name) == result.last.iteration < 40
    with pytest.raises(KeyboardInterrupt):
        msdk.train(recipe, tmp_path / "other", device="cpu", progress=warned(signal.SIGUSR1, signal.SIGINT))


@pytest.mark.parametrize("verb", [msdk.train, msdk.run])
def test_what_torchrun_starts_again_goes_on(tmp_path, monkeypatch, verb):
    """Without --resume: the processes are those of before, after one of them has died."""
    recipe = tiny("training.iterations=2")
    msdk.train(recipe, tmp_path / "run", device="cpu")
    with pytest.raises(RunError, match="exists: continue it with --resume"):
        verb(recipe, tmp_path / "run", device="cpu")
    monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", "1")
    assert verb(recipe, tmp_path / "run", device="cpu").last.iteration == 2
    monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", "0")
    with pytest.raises(RunError, match="exists: continue it with --resume"):
        verb(recipe, tmp_path / "run", device="cpu")


def test_one_process_that_goes_on_makes_all_go_on(tmp_path):
    """The others of another machine may not know that torchrun has started one of them again."""
    recipe = tiny("training.iterations=4", "training.checkpoint_every=2")
    half = attrs.evolve(recipe, training=attrs.evolve(recipe.training, iterations=2))
    msdk.train(half, tmp_path / "run", device="cpu")

    def trained():
        os.environ["TORCHELASTIC_RESTART_COUNT"] = str(this_rank().index)
        result = msdk.train(recipe, tmp_path / "run", device="cpu", warn=lambda text: None)
        return result.last.iteration, sum(result.images_by_stage)

    assert processes(2, trained, tmp_path) == [(4, 32), (4, 32)]


def test_processes_that_see_other_folders_are_told(tmp_path):
    """Where one has a checkpoint and the other none, none trains."""
    recipe = tiny("training.iterations=2")
    msdk.train(recipe, tmp_path / "0", device="cpu")
    msdk.train(attrs.evolve(recipe, training=attrs.evolve(recipe.training, iterations=1)), tmp_path / "1", device="cpu")

    def trained():
        try:
            msdk.train(recipe, tmp_path / str(this_rank().index), device="cpu", resume=True, warn=lambda text: None)
        except RunError as error:
            return str(error)

    told, _ = processes(2, trained, tmp_path)
    assert told.startswith("newest checkpoint of process 1 is 00000001, but that of process 0 is 00000002: ")


@pytest.mark.parametrize("room", [10_000, 1], ids=["checkpoint", "metrics"])
def test_a_full_disk_ends_all_processes_in_words(tmp_path, room):
    """The first process, which alone writes, says that the disk is full; the others end, and nothing is lost."""
    recipe = tiny("training.iterations=9", "training.log_every=1", "training.checkpoint_every=2")

    def full(step):
        if this_rank().first and step.iteration == 3:
            resource.setrlimit(resource.RLIMIT_FSIZE, (room, resource.RLIM_INFINITY))

    def trained():
        try:
            msdk.train(recipe, tmp_path / "run", device="cpu", progress=full)
        except RunError as error:
            resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
            return type(error), str(error)

    (_, told), (other, words) = processes(2, trained, tmp_path)
    assert "cannot be written: the disk is full. What was saved before is intact." in told
    assert other is (ElsewhereError if room > 1 else GoneError), words
    assert int(latest(tmp_path / "run").name) == 2
    again = msdk.train(recipe, tmp_path / "run", device="cpu", resume=True)
    assert again.last.iteration == 9
    assert [line["iteration"] for line in curve(tmp_path / "run")] == list(range(1, 10))


def test_a_cache_without_room_is_no_reason_to_end(tmp_path, monkeypatch):
    """What is only kept for the next time is left out."""
    monkeypatch.setenv("MSDK_CACHE", str(tmp_path / "cache"))

    def no_room(self, *_, **__):
        raise OSError(errno.ENOSPC, "No space left on device", str(self))

    monkeypatch.setattr(Path, "write_text", no_room)
    assert msdk.budget(tiny()).params > 0
    assert not list((tmp_path / "cache").rglob("*.json"))


def test_what_all_processes_would_tell_is_told_once(monkeypatch):
    """The first to ask tells it; another mistake, or another start by torchrun, is told as well."""
    store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    own, gone = RunError("a folder is missing"), GoneError("connection 7 closed")
    assert not distributed.told_elsewhere(own)
    for name, value in {
        "WORLD_SIZE": "2",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(store.port),
        "TORCHELASTIC_USE_AGENT_STORE": "True",
    }.items():
        monkeypatch.setenv(name, value)
    assert [distributed.told_elsewhere(each) for each in (own, own, gone, GoneError("connection 9 closed"))] == [
        False,
        True,
        False,
        True,
    ]
    monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", "1")
    assert not distributed.told_elsewhere(own)


def test_everything_at_once_on_two_processes(tmp_path):
    """`run` shares its work and tells once: edges, budget, weights, images and report are those of one process."""
    recipe = tiny("training.iterations=4", "stages={clustering={name='uniform-lambda'}}")

    def ran(folder="two"):
        told = []
        watcher = msdk.running.Watcher(
            clustered=lambda found: told.append("clustered"),
            budgeted=lambda budgets: told.append("budgeted"),
            trained=lambda step: told.append(step.iteration),
        )
        msdk.run(recipe, tmp_path / folder, device="cpu", watcher=watcher)
        return told

    first, second = processes(2, ran, tmp_path)
    assert first == ["clustered", "budgeted", 1, 2, 3, 4]
    assert second == []
    msdk.run(recipe, tmp_path / "one", device="cpu")
    ours, theirs = ({file.name for file in (tmp_path / name).rglob("*")} for name in ("one", "two"))
    assert ours == theirs
    assert curve(tmp_path / "two")[-1]["loss"] == pytest.approx(curve(tmp_path / "one")[-1]["loss"], rel=1e-4)
