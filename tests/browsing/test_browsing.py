"""Promises of `msdk runs` and `msdk compare`: what folders hold, and what of it can be compared."""

import json
import subprocess
import sys

import pytest
from commands import quick

import msdk
from msdk.browsing import compare, lines_of, runs_below, summary
from msdk.errors import MsdkError
from msdk.runs.writer import one_writer
from msdk.training import train
from recipes import tiny

SHORT = ("training.iterations=4", "training.log_every=2", "training.batch_size=4")


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A multistage run, a unified one that was stopped, one without a step, and one whose recipe is spoilt."""
    folder = tmp_path_factory.mktemp("runs")
    train(tiny(*SHORT), folder / "many" / "staged")
    train(msdk.load_recipe("recipes/digits/unified.toml", SHORT), folder / "many" / "unified")
    spoilt = folder / "spoilt"
    train(tiny(*SHORT, "training.lr=1e-3"), spoilt)
    (spoilt / "recipe.toml").write_text("decoders = 3")
    path = folder / "many" / "unified" / "recipe.toml"
    path.write_text(path.read_text().replace("iterations = 4", "iterations = 9"))
    new = folder / "new"
    new.mkdir()
    for name in ("recipe.toml", "lock.json"):
        (new / name).write_bytes((folder / "many" / "staged" / name).read_bytes())
    return folder


def test_runs_are_listed_with_their_state(runs, capsys, monkeypatch):
    """Also those in folders of the folder; one that is written now says by whom; JSON has what the table has."""
    found = {run.path.removeprefix(f"{runs}/"): run for run in runs_below(runs)}
    assert {name: run.state for name, run in found.items()} == {
        "many/staged": "done",
        "many/unified": "stopped",
        "new": "new",
        "spoilt": "damaged",
    }
    staged = found["many/staged"]
    assert (staged.iteration, staged.images, staged.stages) == (4, 16, 3)
    ledger = json.loads((runs / "many" / "staged" / "ledger.json").read_text())
    assert staged.flops == pytest.approx(ledger["total_flops"], rel=1e-12)
    code, out, _ = quick(capsys, monkeypatch, "runs", runs, columns=80)
    assert code == 0
    assert "4 / 9" in out
    assert "spoilt" in out
    assert [run["state"] for run in json.loads(quick(capsys, monkeypatch, "runs", runs, "--json")[1])] == [
        run.state for run in found.values()
    ]
    assert quick(capsys, monkeypatch, "runs", runs / "none")[0] == 2


def test_who_writes_a_run_is_told(runs):
    """The process that holds the lock, as long as it does."""
    program = (
        "import sys, time; from pathlib import Path; from msdk.runs.writer import one_writer\n"
        "with one_writer(Path(sys.argv[1])): print('held', flush=True); sys.stdin.read()"
    )
    run = runs / "many" / "staged"
    with subprocess.Popen(
        [sys.executable, "-c", program, str(run)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout.readline() == "held\n"
        found = summary(run)
        other.communicate("")
    assert found.state == "training"
    assert f"process {other.pid}" in found.writer
    assert summary(run).state == "done"
    with one_writer(run):
        assert summary(run).state == "done"


def test_lines_are_those_of_the_file(runs):
    """FLOPs grow with the images of each stage, to those of the ledger; a line that a crash cut short is left out."""
    run = runs / "many" / "staged"
    lines = lines_of(run)
    assert [line.iteration for line in lines] == [2, 4]
    ledger = json.loads((run / "ledger.json").read_text())
    prices = [
        flops / images if images else 0.0
        for flops, images in zip(ledger["spent"]["total_flops_by_stage"], ledger["images_by_stage"], strict=True)
    ]
    for line in lines:
        spent = sum(images * price for images, price in zip(line.images_by_stage, prices, strict=True))
        assert line.flops == pytest.approx(spent, rel=1e-12)
    with (run / "metrics.jsonl").open("a") as file:
        file.write('{"iteration": 6, "loss"')
    assert lines_of(run) == lines


def test_what_cannot_be_compared_is_said(runs, tmp_path):
    """Other stages, another loss, other data; equal runs have nothing to say."""
    staged = runs / "many" / "staged"
    train(tiny(*SHORT), tmp_path / "same")
    train(tiny(*SHORT, "weighting={name='uniform'}", "training.seed=1"), tmp_path / "other")
    lock = json.loads((tmp_path / "same" / "lock.json").read_text())
    assert compare([staged, tmp_path / "same"]).notes == ()
    (tmp_path / "same" / "lock.json").write_text(json.dumps({**lock, "data": {**lock["data"], "sha256": "0" * 64}}))
    told = compare([staged, tmp_path / "same", tmp_path / "other", runs / "many" / "unified"]).notes
    assert any("other has another loss" in note and "(weighting" in note for note in told)
    assert any("same was trained on other data" in note for note in told)
    assert any("unified has other stages" in note for note in told)
    assert len(told) == 3
    with pytest.raises(MsdkError, match="two run folders or more"):
        compare([staged])


def test_a_comparison_is_a_table_a_file_and_a_page(runs, tmp_path, capsys, monkeypatch):
    """80 columns are enough; every format is written, none over what exists."""
    paths = [runs / "many" / "staged", runs / "many" / "unified"]
    code, out, err = quick(capsys, monkeypatch, "compare", *paths, columns=80)
    assert code == 0, err
    assert "loss of stage 2" in out
    assert max(map(len, out.splitlines())) <= 80
    for suffix, begins in ((".html", b"<!doctype html>"), (".png", b"\x89PNG"), (".svg", b"<?xml"), (".md", b"**Runs")):
        file = tmp_path / f"both{suffix}"
        assert quick(capsys, monkeypatch, "compare", *paths, "--out", file)[0] == 0
        assert file.read_bytes().startswith(begins)
        assert quick(capsys, monkeypatch, "compare", *paths, "--out", file)[0] == 2
    page = (tmp_path / "both.html").read_text()
    assert "http" not in page.replace("http-equiv", "")
    code, out, _ = quick(capsys, monkeypatch, "compare", *paths, "--json")
    found = json.loads(out)
    assert found["names"] == ["staged", "unified"]
    assert [len(curve) for curve in found["curves"]] == [2, 2]
    code, _, err = quick(capsys, monkeypatch, "compare", *paths, "--out", tmp_path / "both.pdf")
    assert code == 2
    assert "cannot be compared in '.pdf' files" in err
