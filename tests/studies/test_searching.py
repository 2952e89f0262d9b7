"""Settings that a sampler proposes: the same ones for the same results, priced, bounded, shared, and told."""

import json
import math
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from commands import quick
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import msdk
from msdk.studies import collecting, load_study, planning, running
from msdk.studies.choosing import proposed, tries
from msdk.studies.collecting import RUNS
from msdk.studies.fields import Range, Search
from msdk.studies.planning import plan
from msdk.studies.results import Price
from msdk.studies.running import make
from msdk.studies.searching import Searching
from msdk.studies.tuning import at_end

SMALL = """
[study]
seeds = [0, 1, 2]
checkpoints = 2
held_out = 0.05
set = { "training.iterations" = 2, "training.batch_size" = 8, "training.validate_images" = 8, "encoder.channels" = 8 }
search = { name = "tpe", trials = 3, space = { "training.lr" = { low = 1e-4, high = 1e-1, log = true } } }

[arms.unified]
recipe = "ROOT/recipes/digits/unified.toml"
set = { "decoders.0.channels" = 8 }

[arms.multistage]
recipe = "ROOT/recipes/digits/multistage.toml"
set = { "stages" = { edges_ratio = [0.3, 2.5] } }
space = { "decoders.0.channels" = [8, 12] }
"""

KEY = '"training.lr" = { low = 1e-4, high = 1e-1, log = true }'


@pytest.fixture
def file(tmp_path):
    """A study of two arms whose settings are searched; trained in a few seconds."""
    path = tmp_path / "tiny.toml"
    path.write_text(SMALL.replace("ROOT", str(Path.cwd())))
    return path


def priced(recipe, **_):
    """A price that nothing is counted for: networks cost what their channels are, squared."""
    channels, stages, training = recipe.encoder.channels, len(recipe.decoders), recipe.training
    each = 1e3 * (channels**2 + recipe.decoders[0].channels ** 2)
    return Price(
        iterations=training.iterations,
        batch_size=training.batch_size,
        flops=each * training.iterations * training.batch_size,
        macs_per_call=each / 6,
        paper_macs=each / 6 * training.iterations,
        parameters=1,
        flops_per_image=(each,) * stages,
        autoencoder_flops_per_image=0.0,
        hours=None,
        memory=None,
    )


@pytest.fixture
def pretended(monkeypatch):
    """Nothing is trained or counted: quality follows from the recipe, and a learning rate above 0.05 is no good."""
    began = []
    monkeypatch.setattr(planning, "_price", priced)

    def state(folder, trial):
        run = folder / RUNS / trial.name
        return (
            ("failed", "the loss is nan")
            if (run / "failed").exists()
            else (("done", "") if (run / "metrics.jsonl").exists() else ("new", ""))
        )

    def train(recipe, run, **_):
        began.append(run.name)
        run.mkdir(parents=True, exist_ok=True)
        if recipe.training.lr > 0.05:
            (run / "failed").touch()
            raise msdk.RunError("the loss is nan")
        wide = recipe.decoders[0].channels
        value = (math.log10(recipe.training.lr) + 2.5) ** 2 + 0.001 * recipe.training.seed + 0.1 * (wide < 12)
        stages = len(recipe.decoders)
        line = {"iteration": 2, "held_out_loss": value, "held_out_loss_by_stage": [value] * stages, "seconds": 1.0}
        (run / "metrics.jsonl").write_text(json.dumps({**line, "images_by_stage": [8] * stages}) + "\n")
        return SimpleNamespace(interrupted=0)

    monkeypatch.setattr(running, "train_here", train)
    monkeypatch.setattr(running, "judging", lambda recipe, device: None)
    for module in (collecting, running):
        monkeypatch.setattr(module, "state_of", state)
    return began


def test_a_search_trains_each_setting_once(file, tmp_path, pretended, capsys, monkeypatch):
    """Every setting has all seeds; the same study again trains nothing; the best one of each arm counts."""
    text = file.read_text().replace("trials = 3", "trials = 5")
    file.write_text(text)
    found = msdk.study(file, tmp_path / "out")
    assert len(pretended) == len(set(pretended)) == 3 * sum(each.settings for each in found.tuning)
    assert [each.arm for each in found.tuning] == ["unified", "multistage"]
    for each in found.tuning:
        own = [arm for arm in found.arms if arm.arm == each.arm]
        whole = [arm for arm in own if arm.best is not None and all(t.state == "done" for t in arm.trials)]
        assert each.chosen == min(whole, key=lambda arm: arm.best).name
        assert {tuple(t.seed for t in arm.trials) for arm in own} == {(0, 1, 2)}
    assert found.baseline == found.tuning[0].chosen
    assert [each.name for each in found.comparisons] == [found.tuning[1].chosen] * 2
    assert found.unknown == 0
    before = list(pretended)
    assert msdk.study(file, tmp_path / "out").as_json() == found.as_json()
    code, out, _ = quick(capsys, monkeypatch, "study", file, "--out", tmp_path / "out")
    assert pretended == before
    assert code == (2 if found.failed else 0)
    told = " ".join(out.split())
    assert "Arms were tuned by tpe, not all alike" in told
    key = found.tuning[0].keys[0]
    assert f"unified counts with training.lr = {key.value} (from 0.0001 to 0.1)" in told
    assert "no interval holds that it was chosen by the same seeds" in told

    # More settings go on where the others ended.
    file.write_text(text.replace("trials = 5", "trials = 6"))
    msdk.study(file, tmp_path / "out")
    assert 0 < len(pretended) - len(before) <= 6
    assert pretended[: len(before)] == before


@pytest.mark.parametrize("at_once", [1, 2])
def test_who_goes_on_or_helps_comes_to_the_same_settings(file, tmp_path, pretended, at_once):
    """Stopped after any trial, and shared by two that look in turns: the settings are those of one who does it all."""
    file.write_text(file.read_text().replace("trials = 3", f"trials = 3, at_once = {at_once}"))
    whole = plan(load_study(file))

    def names(folder):
        found = Searching(whole, folder)
        return [(each.number, each.name) for each in found.trials()]

    alone = Searching(whole, tmp_path / "alone")
    assert make(alone.trials(), tmp_path / "alone", more=alone.trials) == 0
    expected = names(tmp_path / "alone")
    assert len({number for number, _ in expected}) == len(expected)

    known = []
    for _ in range(100):
        searching = Searching(whole, tmp_path / "shared")  # a process that has just begun
        left = [each for each in searching.trials() if running.state_of(tmp_path / "shared", each)[0] == "new"]
        now = names(tmp_path / "shared")
        assert [each for each in now if each in known] == known  # what was known keeps its number
        known = now
        if not left:
            break
        # One takes the first that is left, or the last one: in whatever order results come.
        make([left[0 if len(left) % 2 else -1]], tmp_path / "shared", wait=False)
    assert known == expected
    assert len(set(pretended)) == len(pretended) / 2


def test_what_fails_is_as_bad_as_can_be(file, tmp_path, pretended):
    """The sampler is told and looks elsewhere, the others are trained, and no setting with a failed seed counts."""
    file.write_text(file.read_text().replace("trials = 3", "trials = 20").replace("high = 1e-1", "high = 10.0"))
    found = msdk.study(file, tmp_path / "out", over=["unified:decoders.0.channels=[8]"])
    failed = ["failed" in {t.state for t in arm.trials} for arm in found.arms if arm.arm == "unified"]
    assert True in failed
    late = failed[12:]
    assert sum(late) / len(late) < sum(failed[:10]) / 10
    for each in found.tuning:
        arm = next(arm for arm in found.arms if arm.name == each.chosen)
        assert not any(t.state == "failed" for t in arm.trials)


def test_the_budget_is_never_exceeded(file, tmp_path, pretended):
    """All is priced before it is trained; each arm has an equal share, and what exceeds it is left out."""
    text = file.read_text().replace(
        '"training.lr" = { low = 1e-4, high = 1e-1, log = true }',
        '"encoder.channels" = { low = 8, high = 24, step = 8 }',
    )
    file.write_text(text.replace("trials = 3", "trials = 4"))
    whole = plan(load_study(file))
    assert [each.tries for each in whole.variants] == [4, 4]
    assert not pretended
    dearest = [each.price.flops for each in whole.variants]
    assert whole.flops == 12 * sum(dearest)
    for share in (0.3, 1.0):
        limit = share * whole.flops
        short = plan(load_study(file, budget=f"{limit:.0f}"))
        assert short.flops <= limit * (1 + 1e-9)
        found = msdk.study(file, tmp_path / f"{share}", budget=f"{limit:.0f}")
        assert found.planned_flops <= limit
        spent = {
            name: sum(3 * arm.price.flops for arm in found.arms if arm.arm == name and arm.kept)
            for name in ("unified", "multistage")
        }
        assert max(spent.values()) <= limit / 2 * (1 + 1e-9)
        assert all(arm.price.flops <= max(dearest) for arm in found.arms)
        assert (share == 1.0) == all(arm.kept for arm in found.arms)
        assert [arm.kept for arm in found.arms] == [
            all(t.state == "done" for t in arm.trials) and bool(arm.trials) for arm in found.arms
        ]
    with pytest.raises(msdk.MsdkError, match=r"shared by 2 arms, is less than the .* that a setting of unified takes"):
        msdk.study(file, tmp_path / "none", budget="1000")
    assert not (tmp_path / "none").exists()


def test_a_command_tells_how_far_it_is(file, tmp_path, pretended, capsys, monkeypatch):
    """--plan, --print and --trial work with what is known, and say what is not; blind samplers know all of it."""
    arguments = ("study", file, "--out", tmp_path / "out")
    _, out, _ = quick(capsys, monkeypatch, *arguments, "--plan")
    assert "3 settings x 3 seeds" in out
    assert "At most 18 trials" in " ".join(out.split())
    code, out, err = quick(capsys, monkeypatch, *arguments, "--print")
    assert (code, len(out.splitlines())) == (0, 6)
    assert "tpe proposes up to 4 more settings" in " ".join(err.split())
    code, _, err = quick(capsys, monkeypatch, *arguments, "--trial", 7)
    assert code == 2
    assert "tpe proposes up to 4 more settings" in " ".join(err.split())
    whole = plan(load_study(file))
    make(Searching(whole, tmp_path / "out").trials()[:5], tmp_path / "out", wait=False)
    assert quick(capsys, monkeypatch, *arguments, "--trial", 5)[0] == 0
    assert len(pretended) == 6
    _, out, _ = quick(capsys, monkeypatch, *arguments, "--print")
    assert len(out.splitlines()) == 12
    _, out, _ = quick(capsys, monkeypatch, *arguments, "--collect")
    assert "settings are still to be proposed" in " ".join(out.split())
    assert len(pretended) == 6
    for name in ("random", "grid"):
        file.write_text(
            SMALL.replace("ROOT", str(Path.cwd()))
            .replace('"tpe"', f'"{name}"')
            .replace("high = 1e-1, log = true", "high = 1e-1, step = 1e-2")
        )
        _, out, err = quick(capsys, monkeypatch, "study", file, "--out", tmp_path / name, "--print")
        assert (len(out.splitlines()), err) == (18, "")


def test_without_optuna_it_says_what_to_install(file, monkeypatch):
    """Before anything is counted."""
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(msdk.MsdkError, match=r"pip install 'msdk-diffusion\[search\]'"):
        plan(load_study(file))


SPACE = f"space = {{ {KEY} }}"


@pytest.mark.parametrize(
    ("before", "after", "told"),
    [
        ('"tpe"', '"tep"', r"expected one of tpe, random, grid, got 'tep'.*Did you mean 'tpe'"),
        ("trials = 3", "trails = 3", "Did you mean 'trials'"),
        ("trials = 3", "trials = 0", "study.search.trials"),
        ("trials = 3", "trials = 2.5", "whole number"),
        (f"{SPACE} }}", "space = {} }", None),
        (SPACE, "space = 3", "study.search.space"),
        (SPACE, 'space = { "training.lr" = 1e-3 }', "study.search.space"),
        (SPACE, 'space = { "training.lr" = "1e-3" }', "study.search.space"),
        (SPACE, 'space = { "training.lr" = [] }', "'training.lr' has no value"),
        (SPACE, 'space = { "training.lr" = [1e-3, 1e-3] }', "'training.lr' has 0.001 twice"),
        (SPACE, 'space = { "training.lr" = { low = 1e-3 } }', "high"),
        (SPACE, 'space = { "training.lr" = { low = 1e-1, high = 1e-3 } }', "`low` is to be less than `high`"),
        (SPACE, 'space = { "training.lr" = { low = 0, high = 1e-3, log = true } }', "`log` is of numbers above 0"),
        (SPACE, 'space = { "training.lr" = { low = nan, high = 1e-3 } }', "finite numbers, got nan"),
        (SPACE, 'space = { "training.lr" = { low = "a", high = true } }', "finite numbers, got 'a'"),
        (SPACE, 'space = { "training.lr" = { low = 1, high = 2, step = 3 } }', "`step` is to be above 0"),
        (SPACE, 'space = { "training.seed" = [1, 2] }', "'training.seed' is set by the study itself"),
        (
            "checkpoints = 2",
            'checkpoints = 2\nbest_of = ["training.lr"]\nover = {"training.lr" = [1, 2]}',
            "leave one of the two out",
        ),
        ('"tpe"', '"grid"', "'training.lr' has no end of values, of which a grid cannot be"),
        ('search = { name = "tpe"', 'title = "x"\n# ', r"arms.multistage.space.*there is none"),
    ],
)
def test_mistakes_of_a_search_are_told(file, before, after, told):
    """Each with its key, before anything is counted."""
    text = file.read_text()
    assert before in text
    text = text.replace(before, after)
    if told is None:
        text, told = text.replace('space = { "decoders.0.channels" = [8, 12] }', ""), "study.search.space.*has no key"
    file.write_text(text)
    with pytest.raises(msdk.MsdkError, match=f"(?s){told}"):
        load_study(file)


@pytest.mark.parametrize(
    ("space", "told"),
    [
        ('"training.learning_rate" = [1, 2]', "training.learning_rate"),
        ('"training.lr" = [1e-3, "fast"]', "training.lr"),
        ('"encoder.channels" = { low = 4.0, high = 8.5 }', "encoder.channels"),
        ('"training.lr" = { low = -1.0, high = 1e-3 }', "training.lr"),
    ],
)
def test_what_no_recipe_takes_is_told_before_training(file, tmp_path, space, told):
    """Both ends of every range and every value of a list are tried as recipes first."""
    file.write_text(file.read_text().replace(KEY, space))
    with pytest.raises(msdk.MsdkError, match=told):
        msdk.study(file, tmp_path / "out")
    assert not (tmp_path / "out").exists()


numbers = st.integers(1, 50) | st.floats(0.01, 50, allow_nan=False)


@given(
    low=numbers,
    width=numbers,
    log=st.booleans(),
    step=st.none() | numbers,
    name=st.sampled_from(["tpe", "random", "grid"]),
    seed=st.integers(0, 9),
)
@settings(max_examples=40, deadline=None)
def test_what_is_proposed_is_in_the_space(low, width, log, step, name, seed):
    """Numbers are within their range, on their steps, whole where the ends are; lists give their own values."""
    log = log and step is None
    step = None if step is None or step > low + width - low else step
    space = Range(low=low, high=low + width, log=log, step=step)
    assume(name != "grid" or step is not None or space.whole)
    listed = ({"name": "adamw"}, 1, "a", [0.5])
    search = Search(name=name, trials=12, at_once=5, seed=seed)
    whole = {"b": space, "a": listed}
    assume(name != "grid" or (space.high - space.low) / (step or 1) < 100)
    found = proposed(search, whole, lambda each: float(each["b"]))
    assert found == proposed(search, dict(reversed(whole.items())), lambda each: float(each["b"]))
    assert len(found) == tries(search, whole)
    for each in found:
        assert each["a"] in listed
        assert low <= each["b"] <= (low + width) * (1 + 1e-9)
        assert isinstance(each["b"], int) == space.whole
        if step is not None:
            place = (each["b"] - low) / step
            assert place == pytest.approx(round(place), abs=1e-6)
    if name == "grid":
        assert len({str(each) for each in found}) == len(found)


def test_tpe_finds_what_is_better():
    """Of a bowl it finds a better value than chance does, for most seeds."""
    space = {"x": Range(low=0.0, high=1.0), "y": Range(low=1e-5, high=1.0, log=True)}

    def worth(each):
        return (each["x"] - 0.3) ** 2 + (math.log10(each["y"]) + 2) ** 2 / 4

    def best(name, seed):
        return min(worth(each) for each in proposed(Search(name=name, trials=40, seed=seed), space, worth))

    assert sum(best("tpe", seed) < best("random", seed) for seed in range(8)) >= 6


@pytest.mark.parametrize(
    ("value", "values", "end"),
    [
        (1e-3, (1e-3, 3e-3, 1e-2), True),
        (3e-3, (1e-3, 3e-3, 1e-2), False),
        (1e-2, (1e-3, 1e-2, 3e-3), True),
        ("a", ("a", "b"), False),
        (True, (True, False), False),
        (1, (1,), False),
        (1.05e-4, Range(low=1e-4, high=1e-1, log=True), True),
        (1e-3, Range(low=1e-4, high=1e-1, log=True), False),
        (1e-3, Range(low=1e-4, high=1e-1), True),
        (64, Range(low=8, high=64, step=8), True),
    ],
)
def test_an_end_of_what_was_tried(value, values, end):
    """Numbers have ends; so has a range, whose outer twentieth counts as one."""
    assert at_end(value, values) == end
