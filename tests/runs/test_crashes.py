"""Promises of killed and interrupted commands, at a few points each: benchmarks/bench_crashes.py tries all of them."""

import contextlib
import importlib.util
import signal
import sys
from pathlib import Path

import pytest
import torch
from commands import quick
from parity import STILL
from processes import processes

import msdk
from msdk.distributed import this_rank
from msdk.errors import RunError
from msdk.recipe import to_toml
from msdk.runs import latest, load_checkpoint
from msdk.sampling import drawing
from recipes import tiny

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="forks and SIGKILL are POSIX")
BENCH = Path(__file__).parents[2] / "benchmarks" / "bench_crashes.py"


@pytest.fixture(scope="module")
def benchmark(tmp_path_factory):
    """The benchmark's module, and a folder in which its commands run."""
    spec = importlib.util.spec_from_file_location("bench_crashes", BENCH)
    module = importlib.util.module_from_spec(spec)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "bench_crashes", module)
        patch.setenv("MSDK_CACHE", str(tmp_path_factory.mktemp("cache")))
        patch.setenv("COLUMNS", "200")
        spec.loader.exec_module(module)
        work = tmp_path_factory.mktemp("crashes").resolve()
        module.prepared(work)
        yield module, work


@pytest.fixture
def attack(benchmark):
    module, work = benchmark
    return lambda name, **options: module.attacked(module.CASES[name], work, **options)


def test_only_the_line_in_hand_is_cut(benchmark, tmp_path):
    """Lines that a checkpoint already knows do not go, however long they are beside the last one."""
    module, _ = benchmark
    left, note = tmp_path / "left", tmp_path / "note"
    left.mkdir()
    first, second = b'{"iteration": 1, "seconds": 0.123456789}\n', b'{"iteration": 2}\n'
    for name, kept in (("metrics.jsonl", len(first) + len(second) // 2), ("state.json", len(first + second) // 2)):
        (left / name).write_bytes(first + second)
        note.write_text(str(tmp_path / "here" / name))
        assert len(list(module._states(left, note, tmp_path / "here", torn=True))) == 2
        assert (left / name).read_bytes() == (first + second)[:kept]


@pytest.mark.parametrize(("name", "points"), [("train", 2), ("sample-zip", 2), ("convert", 1), ("gather", 2)])
def test_killed_anywhere_is_never_stuck_nor_different(attack, name, points):
    """The plain command, --resume and --force end as if nothing had been, or the plain one says which does."""
    found = attack(name, most=points)
    assert found.killed == points < found.points
    assert found.commands >= (1 if name == "gather" else 2) * points
    assert (found.stuck, found.different) == ([], [])


@pytest.mark.parametrize(
    "deaths",
    [
        [(0, 0.6)],
        pytest.param([(victim, n / 4) for victim in (0, 1) for n in range(4)], marks=pytest.mark.slow),
    ],
    ids=["one", "many"],
)
def test_killed_while_shards_are_written(attack, tmp_path, monkeypatch, deaths):
    """Whichever process and when: the checkpoint before is there or the new one, whole, and one process goes on."""
    bench = sys.modules["bench_crashes"]
    often = ("training.parallel=fsdp", "training.checkpoint_every=1", "training.keep=1", "training.log_every=1")
    recipe = tiny(STILL, *often, "training.iterations=2", "training.batch_size=8")
    monkeypatch.chdir(tmp_path)  # where files count

    def struck(folder, points):
        """Changes of files in each process since the first checkpoint; None of one that was killed at its point."""

        def strike(step):
            if step.iteration == 1:
                counts.append(bench.strike_at(points[this_rank().index], signal.SIGKILL, tmp_path / "note"))

        def work():
            with contextlib.suppress(RunError):
                msdk.train(recipe, tmp_path / folder, device="cpu", progress=strike)
            return len(counts[0])

        counts = []
        (tmp_path / f"{folder}-told").mkdir()
        return processes(2, work, tmp_path / f"{folder}-told")

    totals = struck("whole", [sys.maxsize] * 2)
    right = load_checkpoint(latest(tmp_path / "whole"))
    for number, (victim, share) in enumerate(deaths):
        points = [sys.maxsize] * 2
        points[victim] = 1 + int(share * totals[victim])
        found = struck(f"run-{number}", points)
        assert found[victim] is None
        assert load_checkpoint(latest(tmp_path / f"run-{number}")).iteration in (1, 2)
        result = msdk.train(recipe, tmp_path / f"run-{number}", device="cpu", resume=True)
        assert result.last.iteration == 2
        again = load_checkpoint(latest(tmp_path / f"run-{number}"))
        assert again.images_by_stage == right.images_by_stage
        for name, value in right.model.items():
            torch.testing.assert_close(again.model[name], value, rtol=1e-3, atol=1e-5)
        assert not list((tmp_path / f"run-{number}").rglob(".*.tmp"))


@pytest.mark.parametrize(("name", "points"), [("train", 1), ("sample-folder", 1), ("sample-zip", 6), ("cluster", 1)])
def test_interrupted_anywhere_says_what_is_kept(attack, name, points):
    """Exit code 130 and words, and what is left is as good as after SIGKILL."""
    found = attack(name, most=points, signum=signal.SIGINT)
    assert (found.killed, found.silent, found.stuck, found.different) == (points, [], [], [])


@pytest.mark.parametrize(
    ("words", "where", "told"),
    [
        (("budget", "r.toml"), "msdk.recipe.loading.structure", "nothing was written"),
        (("cluster", "r.toml"), "msdk.clustering.finding._timed", "nothing was written"),
        (
            ("pretrained", "convert", "w", "--family", "edm", "--out", "run"),
            "msdk.pretrained.converting.convert",
            "nothing",
        ),
        (("train", "r.toml", "--out", "run"), "msdk.training.loop.build", "nothing was trained yet"),
        (("run", "r.toml", "--out", "run"), "msdk.running.everything.budget", "nothing was trained yet"),
    ],
    ids=lambda value: value[0] if isinstance(value, tuple) else "",
)
def test_ctrl_c_before_there_is_anything(words, where, told, tmp_path, capsys, monkeypatch):
    """Says so, and leaves nothing."""
    (tmp_path / "r.toml").write_text(to_toml(tiny("stages={edges_ratio=[0.3, 2.5]}")))
    monkeypatch.chdir(tmp_path)
    importlib.import_module(where.rpartition(".")[0])

    def interrupted(*rest, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr(where, interrupted)
    code, _, err = quick(capsys, monkeypatch, *words)
    assert (code, [path.name for path in tmp_path.iterdir()]) == (130, ["r.toml"])
    assert f"interrupted: {told}" in err
    assert "begins anew" in err


def test_ctrl_c_in_sampling_says_where_images_are(tmp_path, capsys, monkeypatch):
    """What was drawn is named, and the same command draws the rest."""
    recipe = tiny("training.iterations=1", "sampling.batch_size=1", "sampling.images=3")
    msdk.train(recipe, tmp_path / "run")
    keep, drawn = drawing._keep, []

    def twice(path, image):
        if len(drawn) == 2:
            raise KeyboardInterrupt
        drawn.append(path.name)
        keep(path, image)

    monkeypatch.setattr(drawing, "_keep", twice)
    code, _, err = quick(capsys, monkeypatch, "sample", tmp_path / "run", "--out", tmp_path / "out")
    assert code == 130
    assert f"interrupted: what was drawn is kept in {tmp_path / 'out'}.partial; the same command goes on" in err
    monkeypatch.setattr(drawing, "_keep", lambda path, image: drawn.append(path.name) or keep(path, image))
    assert quick(capsys, monkeypatch, "sample", tmp_path / "run", "--out", tmp_path / "out")[0] == 0
    assert drawn == ["000000.png", "000001.png", "000002.png"]
