"""A longer trial goes on from a shorter one of the same recipe, and is what it would have been."""

import contextvars
import hashlib
from pathlib import Path

import pytest

import msdk
from msdk.runs.folder import latest
from msdk.runs.writer import one_writer
from msdk.studies import load_study
from msdk.studies.collecting import state_of
from msdk.studies.extending import extend
from msdk.studies.planning import plan
from msdk.studies.running import Watcher
from msdk.training import train

TINY = """
[study]
title = "Tiny"
seeds = [0, 1, 2]
checkpoints = 2
held_out = 0.05
set = { "training.iterations" = 3, "training.batch_size" = 8, "training.validate_images" = 8, "encoder.channels" = 8 }

[arms.multistage]
recipe = "ROOT/recipes/digits/multistage.toml"
set = { "decoders.0.channels" = 12, "stages" = { edges_ratio = [0.3, 2.5] } }

[arms.unified]
recipe = "ROOT/recipes/digits/unified.toml"
set = { "decoders.0.channels" = 8 }
"""


@pytest.fixture
def file(tmp_path):
    """A study of two arms, each of whose trials is of three steps."""
    path = tmp_path / "tiny.toml"
    path.write_text(TINY.replace("ROOT", str(Path.cwd())))
    return path


def contents(folder):
    """Every file of a folder, by its digest."""
    return {
        path.relative_to(folder): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_what_was_trained_is_not_trained_again(file, tmp_path):
    """The steps of the shorter trials are the first of the longer ones, to the last bit; the shorter ones stay."""
    steps = {}

    def watcher(name):
        return Watcher(trained=lambda trial, step: steps.setdefault(name, []).append(step.iteration))

    shorter = msdk.study(file, tmp_path / "out", watcher=watcher("shorter"))
    for trial in shorter.arms[0].trials:
        (tmp_path / "out" / trial.folder / "report.html").write_text("of three steps")
    before = contents(tmp_path / "out" / "trials")
    longer = ["training.iterations=6"]
    found = msdk.study(file, tmp_path / "out", overrides=longer, watcher=watcher("longer"))
    alone = msdk.study(file, tmp_path / "alone", overrides=longer, watcher=watcher("alone"))
    assert steps == {"shorter": 6 * [1, 2, 3], "longer": 6 * [4, 5, 6], "alone": 6 * [1, 2, 3, 4, 5, 6]}
    after = contents(tmp_path / "out" / "trials")
    assert {name: after[name] for name in before} == before
    assert not any((tmp_path / "out" / trial.folder / "report.html").exists() for trial in found.arms[0].trials)
    made, anew = ([trial for arm in each.arms for trial in arm.trials] for each in (found, alone))
    for ours, theirs in zip(made, anew, strict=True):
        assert (ours.seed, ours.state, theirs.state) == (theirs.seed, "done", "done")
        assert [(point.iteration, point.value) for point in ours.points] == [
            (point.iteration, point.value) for point in theirs.points
        ]
        one, other = (
            contents(latest(place)) for place in (tmp_path / "out" / ours.folder, tmp_path / "alone" / theirs.folder)
        )
        weights = [name for name in one if name.suffix == ".safetensors"]
        assert weights
        assert {name: one[name] for name in weights} == {name: other[name] for name in weights}
    # The shorter study is as it was, and the longer one is there.
    assert msdk.study(file, tmp_path / "out").arms == shorter.arms


@pytest.mark.parametrize(
    ("changed", "goes_on"),
    [
        ('training.lr_schedule={ name = "inverse-sqrt" }', True),
        ('training.lr_schedule={ name = "cosine" }', False),
        ("training.stop={ patience = 2 }", False),
        ('training.stage_draw={ name = "curriculum", every = 2 }', True),
        ('training.stage_draw={ name = "curriculum" }', False),
    ],
)
def test_only_where_no_step_knows_its_end(file, tmp_path, changed, goes_on):
    """Rates that fall to the end, a curriculum's turns and stopping depend on how many steps there will be."""
    trial = plan(load_study(file, overrides=[changed])).trials()[0]
    run = tmp_path / "trials" / trial.name
    train(trial.recipe, run)
    assert (state_of(tmp_path, trial)[0], run.name) == ("done", trial.name)
    longer = plan(load_study(file, overrides=[changed, "training.iterations=6"])).trials()[0]
    assert extend(tmp_path, longer) == (3 if goes_on else 0)
    assert longer.run(tmp_path).exists() == goes_on


@pytest.mark.parametrize("spoiled", ["another recipe", "not done", "in hand", "no longer"])
def test_only_from_what_its_name_says(file, tmp_path, spoiled):
    """Not from another recipe, one that is not done or is being written, or a longer one."""
    trial = plan(load_study(file)).trials()[0]
    run = tmp_path / "trials" / trial.name
    train(trial.recipe, run)
    overrides = ["training.iterations=6"]
    if spoiled == "another recipe":
        overrides.append("training.lr=1e-5")
    elif spoiled == "not done":
        latest(run).rename(latest(run).with_name("00000002"))
    elif spoiled == "no longer":
        overrides = ["training.iterations=2"]
    longer = plan(load_study(file, overrides=overrides)).trials()[0]
    elsewhere, writing = contextvars.Context(), one_writer(run)  # as if another process wrote there
    if spoiled == "in hand":
        elsewhere.run(writing.__enter__)
    assert extend(tmp_path, longer) == 0
    if spoiled == "in hand":
        elsewhere.run(writing.__exit__, None, None, None)
    assert not longer.run(tmp_path).exists()
