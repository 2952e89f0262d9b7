"""What finished trials are worth: scored once, by whoever comes first, in stages that all arms share, and painted."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from commands import quick
from PIL import Image

import msdk
from msdk.metrics.denoising_loss import DenoisingLoss
from msdk.partition import Partition
from msdk.studies import load_study, scoring
from msdk.studies.collecting import RUNS, read_result
from msdk.studies.planning import plan

SMALL = """
[study]
title = "Tiny"
seeds = [0, 1, 2]
checkpoints = 2
held_out = 0.05
scores = ["denoising-loss", "fid"]

[study.set]
"training.iterations" = 4
"training.batch_size" = 8
"training.validate_images" = 8
"encoder.channels" = 8
"decoders.0.channels" = 8
evaluation = { images = 4 }
sampling = { steps = 2, images = 4 }

[arms.unified]
recipe = "ROOT/recipes/digits/unified.toml"

[arms.multistage]
recipe = "ROOT/recipes/digits/multistage.toml"
set = { "stages" = { edges_ratio = [0.3, 2.5] }, "decoders.1.channels" = 8, "decoders.2.channels" = 8 }
"""


def written(folder, **changes):
    """A study of two arms and three seeds, which is trained and scored in a few seconds."""
    path = folder / "tiny.toml"
    text = SMALL.replace("ROOT", str(Path.cwd()))
    for old, new in changes.items():
        assert old in text
        text = text.replace(old, new)
    path.write_text(text)
    return path


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A study that was made by two processes of `msdk study`."""
    folder = tmp_path_factory.mktemp("scored")
    words = [sys.executable, "-m", "msdk", "study", str(written(folder)), "--out", str(folder / "out")]
    done = subprocess.run(
        [*words, "--processes", "2"], capture_output=True, text=True, env={**os.environ, "COLUMNS": "80"}
    )
    assert done.returncode == 0, done.stderr
    return folder, done.stdout, done.stderr


def test_several_processes_make_it_and_one_tells(made):
    """Trials are shared, each is told once, and on 80 columns no line is wider; the picture has both arms."""
    folder, out, err = made
    assert sorted(line.split(" ")[1] for line in err.splitlines() if line.startswith("trial")) == list("012345")
    assert max(len(line) for line in out.splitlines() if not line.startswith("in ")) <= 80
    assert "FD-digits" in out
    with Image.open(folder / "out" / "samples.png") as picture:
        assert picture.info["trials"].count("seed0") == 2
        assert picture.width > 1.8 * picture.height


def test_arms_are_looked_at_in_the_same_stages(made):
    """A unified network has losses in the stages of the multistage one: of one run, those of msdk evaluate."""
    folder, *_ = made
    found = read_result(folder / "out")
    names = [each.name for each in found.scores if each.arm == "unified"]
    assert names == ["loss, stage 0", "loss, stage 1", "loss, stage 2", "FD-digits"]
    assert found.stages_by == "multistage"
    run = next((folder / "out" / RUNS).glob("multistage-seed0-*"))
    theirs = msdk.evaluate(run, metrics=[DenoisingLoss(images=8)], name="own")
    file = json.loads((folder / "out" / scoring.FOLDER / f"{run.name}.json").read_text())["scores"]
    for stage in range(3):
        assert file[f"loss, stage {stage}"] == pytest.approx(theirs[f"denoising-loss stage {stage}"], rel=1e-5)


def test_paired_differences_have_students_interval(made):
    """The mean difference, seed by seed; the interval is symmetric around it but for what is drawn."""
    folder, *_ = made
    found = read_result(folder / "out")
    ours, theirs = ([each for each in found.scores if each.arm == arm][-1] for arm in ("multistage", "unified"))
    assert theirs.difference is None
    assert ours.difference.estimate == pytest.approx(ours.mean - theirs.mean)
    low, high = (abs(end - ours.difference.estimate) for end in (ours.difference.low, ours.difference.high))
    assert low == pytest.approx(high, rel=0.2)


def test_what_is_scored_stays_until_something_else_is_asked(made, tmp_path, monkeypatch):
    """The same study scores nothing again; other settings of the evaluation do, without any training."""
    folder, *_ = made
    counted = []
    real = scoring._scored
    monkeypatch.setattr(scoring, "_scored", lambda *args: counted.append(1) or real(*args))
    before = (folder / "out" / scoring.PICTURE).stat().st_mtime_ns
    for text, wanted in (("images = 4 }\nsampling", 0), ("images = 3 }\nsampling", 6)):
        counted.clear()
        path = written(tmp_path, **{"images = 4 }\nsampling": text})
        whole = plan(load_study(path))
        scoring.score(whole, whole.trials(), folder / "out")
        assert len(counted) == wanted
    scoring.paint(whole, whole.trials(), folder / "out")
    assert (folder / "out" / scoring.PICTURE).stat().st_mtime_ns == before


def test_edges_are_those_of_the_arm_with_the_most_stages(tmp_path):
    """Whatever the order of arms."""
    whole = plan(load_study(written(tmp_path)))
    assert Partition(scoring.shared_edges(whole)) == Partition((0.3, 2.5))
    assert scoring.stages_by(whole) == "multistage"


def test_what_cannot_be_scored_is_told_and_ends_nothing(made, tmp_path):
    """An extractor without weights: the trials stay done, and there is no score of the kind."""
    folder, *_ = made
    path = written(tmp_path, **{"images = 4 }\nsampling": 'images = 4, extractor = { name = "inception" } }\nsampling'})
    whole, told = plan(load_study(path)), []
    scoring.score(whole, whole.trials()[:2], folder / "out", warned=told.append)
    assert [("seed0" in each, "has no scores" in each) for each in told] == [(True, True)] * 2
    assert scoring.compared(whole, whole.trials(), folder / "out", "unified") == ()


def test_mistakes_are_told(tmp_path, capsys, monkeypatch):
    """Unknown metrics, no process, and one trial for several."""
    path = written(tmp_path, **{'"fid"': '"fed"'})
    code, _, err = quick(capsys, monkeypatch, "study", path)
    assert (code, "'fid'" in err) == (2, True)
    path = written(tmp_path)
    for words in (("--processes", 0), ("--processes", 2, "--trial", 1)):
        code, _, err = quick(capsys, monkeypatch, "study", path, *words)
        assert (code, "--processes" in err) == (2, True)


def test_ctrl_c_saves_all_trials_in_hand(tmp_path):
    """It reaches both processes, as in a terminal; none is left, and each trial in hand has a checkpoint.

    Were this test itself killed, they would end after some thousand iterations.
    """
    path = written(tmp_path, **{'"training.iterations" = 4': '"training.iterations" = 5000'})
    words = [sys.executable, "-m", "msdk", "study", str(path), "--out", str(tmp_path / "out"), "--processes", "2"]
    process = subprocess.Popen(words, stderr=subprocess.PIPE, text=True, start_new_session=True)
    runs = tmp_path / "out" / RUNS
    end = time.monotonic() + 60
    while time.monotonic() < end and sum(1 for _ in runs.glob("*/metrics.jsonl")) < 2:
        time.sleep(0.1)
    os.killpg(process.pid, signal.SIGINT)
    try:
        _, err = process.communicate(timeout=60)
    except BaseException:
        os.killpg(process.pid, signal.SIGKILL)
        raise
    assert process.returncode == 130
    assert "the same command goes on" in err
    assert sum(1 for _ in runs.glob("*/checkpoints/*")) >= 2
    with pytest.raises(ProcessLookupError):
        os.killpg(process.pid, 0)
