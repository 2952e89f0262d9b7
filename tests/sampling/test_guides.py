"""Promises of guidance by another run: what is drawn, what it costs, and what is refused."""

import json

import attrs
import pytest
import torch
from commands import quick

import msdk
from msdk.errors import PartError, RecipeError, RunError
from msdk.recipe import Guide
from msdk.recipe.results import from_json, to_json
from msdk.report.budgets import stages_grid
from msdk.runs import run_recipe
from msdk.samplers.base import run as walk
from msdk.sampling.noise import SeededNoise
from recipes import tiny

SMALL = ('decoders=[{name="ddpmpp", channels=8}]', "stages.edges_ratio=[]")


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A run of three stages, and a worse one of one stage; both with large steps, so that they differ."""
    folder = tmp_path_factory.mktemp("runs")
    large = ("training.lr=0.05", "training.warmup=0", "training.iterations=3", "training.ema_decay=0")
    msdk.train(tiny(*large), folder / "good")
    msdk.train(tiny(*large, *SMALL, "training.seed=5"), folder / "bad")
    return folder


def guided(runs, *words):
    return tiny("training.ema_decay=0", "sampling.guidance=3", f'sampling.guide={{ run="{runs / "bad"}" }}', *words)


def test_images_are_where_the_better_run_differs_from_the_worse(runs):
    """x_0 = worse + 3 (better - worse) inside the interval of ratio, the better one's own outside of it."""
    recipe = guided(runs, "sampling.guidance_interval=[0.3, 2.5]")
    good, bad = msdk.load_run(runs / "good"), msdk.load_run(runs / "bad")
    good.recipe = recipe
    found = msdk.sample(good)

    def denoise(x, t):
        better = good(x, t)
        if not 0.3 < good.schedule.ratio(t) <= 2.5:
            return better
        worse = bad(x, t)
        return worse + 3 * (better - worse)

    noise = SeededNoise(range(4))
    times = recipe.solver.times(good.schedule, recipe.steps)
    with torch.no_grad():
        start = recipe.solver.start(good.schedule, noise, torch.empty(4, *good.shape))
        wanted = walk(recipe.solver, denoise, good.schedule, times, start, noise)
    torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-5)
    plain = msdk.sample(good, guidance=1.0)
    assert (plain - found).abs().max() > 0.01


def test_the_budget_has_the_guide(runs):
    """Its calls are in nfe, its MACs, by its own stage, in trace and guidance; the stages' own figures stay."""
    recipe = guided(runs, "sampling.guidance_interval=[0.3, 2.5]")
    plain = msdk.budget(attrs.evolve(recipe, sampling=attrs.evolve(recipe.sampling, guidance=1.0, guide=None)))
    (price,) = (stage.macs for stage in msdk.budget(runs / "bad").stages)
    found = msdk.budget(recipe)
    inside = [0.3 < call.ratio <= 2.5 for call in plain.trace]
    assert 0 < sum(inside) < len(inside)
    assert [call.macs for call in found.trace] == [
        own.macs + price * each for own, each in zip(plain.trace, inside, strict=True)
    ]
    assert (found.stages, found.means) == (plain.stages, plain.means)
    assert found.nfe == plain.nfe + sum(inside)
    told = found.as_json()["guidance"]
    assert told["macs"] == price * sum(inside) == price * told["extra_calls"]
    (note,) = (note for note in stages_grid(found).notes if note.startswith("guidance"))
    assert "evaluates" in note
    assert str(runs / "bad") in note
    assert from_json(json.loads(json.dumps(to_json(found))), type(found)).guidance == found.guidance


def test_a_guide_that_is_not_there_is_told(tmp_path):
    """In the budget, where a figure lacks it; in words where images are to be drawn."""
    recipe = guided(tmp_path)
    assert any("is in no figure" in note for note in msdk.budget(recipe).notes)
    denoiser = msdk.build(recipe).eval()
    with pytest.raises(RunError, match="bad"):
        msdk.sample(denoiser)


def test_a_run_of_another_kind_is_refused(runs):
    """Of other images or another noise, or with classes that what it guides has not."""
    recipe = guided(runs)
    for words in (('schedule={name="vp-linear", beta_max=19.0}',), ("data.held_out=0.1",)):
        denoiser = msdk.build(attrs.evolve(tiny(*words), sampling=recipe.sampling)).eval()
        if "schedule" in words[0]:
            with pytest.raises(PartError, match=r"sampling\.guide\.run: the schedule of .*bad is VPLinear"):
                msdk.sample(denoiser)
        else:
            assert len(msdk.sample(denoiser)) == 4


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("sampling.guidance=1",), r"sampling\.guide +does nothing where sampling\.guidance is 1"),
        (("training.sample_every=2",), r"training\.sample_every +draws as"),
    ],
)
def test_what_does_not_go_together_is_refused(tmp_path, words, told):
    """Before anything is drawn."""
    with pytest.raises(RecipeError, match=told):
        guided(tmp_path, *words)


def test_the_command_draws_and_tells(runs, tmp_path, capsys, monkeypatch):
    """samples.json has what tells one guide from another, and the calls and MACs of both."""
    made = tmp_path / "run"
    large = ("training.lr=0.05", "training.warmup=0", "training.iterations=3", "training.ema_decay=0")
    msdk.train(guided(runs, *large), made)
    code, _, err = quick(capsys, monkeypatch, "sample", made, "--seeds", "0-1", "--json")
    assert code == 0, err
    facts = json.loads((made / "samples" / "samples.json").read_text())
    assert facts["sampling"]["guide"]["run"] == "bad"
    assert len(facts["sampling"]["guide"]["sha256"]) == 64
    assert facts["nfe"] == 2 * len(facts["trace"])
    own = {call.stage: call.macs for call in msdk.budget(tiny()).trace}
    (price,) = (stage.macs for stage in msdk.budget(runs / "bad").stages)
    assert [call["macs"] for call in facts["trace"]] == [own[call["stage"]] + price for call in facts["trace"]]
    assert Guide(run=runs / "bad") == run_recipe(made).sampling.guide
