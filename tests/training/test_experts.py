"""Promises of experts: networks of a kind of their own for each stage, trained softly, through all of msdk."""

import json

import attrs
import pytest
import torch
from commands import quick
from hypothesis import given, settings
from hypothesis import strategies as st
from parity import trained
from processes import processes
from torch import Generator

import msdk
from msdk.batch import Batch
from msdk.denoiser import Denoiser, StagedNetwork
from msdk.errors import RecipeError
from msdk.inspecting import h_space
from msdk.objectives.base import Draw
from msdk.partition import Partition
from msdk.recipe import Recipe
from msdk.report import h_space_grids
from msdk.runs import latest, load_checkpoint
from msdk.training.drawing import draw_times, soft_stages
from recipes import tiny

SIZE = "channel_mult=[1, 1], blocks=1, attention=[4], groups=4"
ENCODERS = ", ".join(
    [
        f'{{name="iunet", channels=16, {SIZE}, head_width=4, convolution=[0.75, 0.5]}}',
        f'{{name="ddpmpp", channels=8, {SIZE}, dropout=0.0}}',
        '{name="dit", width=16, depth=1, heads=2, patch=4}',
    ]
)
DECODERS = ", ".join(
    [
        '{name="iunet", channels=8, groups=4, head_width=4}',
        '{name="ddpmpp", channels=8, dropout=0.0}',
        '{name="dit", width=16, depth=1, heads=2}',
    ]
)
EXPERTS = ('sharing="separate"', f"encoders=[{ENCODERS}]", f"decoders=[{DECODERS}]")
"""Three networks of different kinds."""

SOFT = "training.stage_draw={name='uniform', own=[0.8, 0.4, 0.1]}"


# --- draws ------------------------------------------------------------------------------------------------------------


@given(own=st.lists(st.sampled_from([0.0, 0.3, 1.0]), min_size=3, max_size=3), seed=st.integers(0, 9))
@settings(max_examples=20, deadline=None)
def test_soft_draws_have_their_probabilities(own, seed):
    """A stage keeps its own times with its probability; the others are of all stages by their shares, its own too."""
    shares, count = [0.5, 0.2, 0.3], 6000
    stages = torch.arange(3).repeat_interleave(count)
    found = soft_stages(stages, own, shares, Generator().manual_seed(seed)).view(3, count)
    for stage, kept in enumerate(own):
        wanted = [kept * (stage == other) + (1 - kept) * share for other, share in enumerate(shares)]
        drawn = torch.bincount(found[stage], minlength=3) / count
        torch.testing.assert_close(drawn.tolist(), wanted, atol=0.03, rtol=0)


def test_draws_of_a_recipe_are_soft():
    """Experts have their shares of images, and with `own` of 1 the draws are those without it."""
    recipe = tiny(SOFT)
    denoiser = msdk.build(recipe)
    stages, times = draw_times(recipe, denoiser, 3000, Generator().manual_seed(0))
    torch.testing.assert_close(torch.bincount(stages) / 3000, torch.full((3,), 1 / 3), atol=0.03, rtol=0)
    inside = recipe.partition().at(times, recipe.schedule) == stages
    natural = recipe.natural_shares()
    for stage, kept in enumerate((0.8, 0.4, 0.1)):
        share = inside[stages == stage].double().mean().item()
        assert share == pytest.approx(kept + (1 - kept) * natural[stage], abs=0.05)
    hard = tiny("training.stage_draw={name='uniform', own=[1, 1, 1]}")
    stages, times = draw_times(hard, denoiser, 300, Generator().manual_seed(0))
    assert torch.equal(hard.partition().at(times, hard.schedule), stages)


@pytest.mark.parametrize("name", ["denoising", "uncertainty"])
def test_a_loss_asks_the_named_expert(name):
    """That of images with times of any stage is what the expert's network alone would have, in a batch of all three."""
    recipe = tiny(*EXPERTS, f"training.objective={{name='{name}'}}")
    torch.manual_seed(0)
    denoiser = msdk.build(recipe).double()
    with torch.no_grad():
        for parameter in denoiser.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    images = torch.randn(6, *recipe.shape, dtype=torch.float64)
    draw = Draw(
        stages=torch.tensor([0, 1, 2, 2, 1, 0]),
        times=torch.tensor([0.9, 0.05, 0.4, 0.01, 0.7, 0.3], dtype=torch.float64),
        weights=torch.ones(6, dtype=torch.float64),
        noise=torch.randn_like(images),
        named=True,
    )
    loss = recipe.training.loss.build(denoiser).double()
    found = loss.loss(Batch(images), draw, denoiser)
    network = denoiser.network
    for stage in range(3):
        alone = StagedNetwork([network.encoder(stage)], [network.decoders[stage]])
        one = Denoiser(alone, Partition(), recipe.schedule, recipe.parameterization, recipe.shape).double()
        theirs = loss.loss(Batch(images), attrs.evolve(draw, named=False), one)
        own = draw.stages == stage
        torch.testing.assert_close(found[own], theirs[own], rtol=1e-9, atol=1e-12)
    assert [each.named for each in draw.split(3)] == [True, True]
    hard = loss.loss(Batch(images), attrs.evolve(draw, named=False), denoiser)
    assert not torch.allclose(hard, found)


@pytest.mark.parametrize(
    ("changes", "path", "words"),
    [
        (["training.stage_draw={name='uniform', own=[1, 1]}"], "training.stage_draw", "own has 2 entries, and there"),
        (["training.stage_draw={name='uniform', own=[1, 1, 2]}"], "training.stage_draw.own", "must be <= 1"),
        ([SOFT, "training.importance=true"], "training.importance", "leave importance or own out"),
        ([SOFT, "training.objective=pfgm"], "training.stage_draw", "pfgm asks the network of an image's time"),
    ],
)
def test_draws_that_cannot_be_are_told(changes, path, words):
    with pytest.raises(RecipeError) as told:
        tiny(*changes)
    found = {problem.path: problem.message for problem in told.value.problems}
    assert words in found[path]


# --- runs -------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run of four steps of experts of three kinds."""
    folder = tmp_path_factory.mktemp("runs") / "experts"
    msdk.train(tiny(*EXPERTS, SOFT, "data.held_out=0.1", "training.checkpoint_every=2"), folder, device="cpu")
    return folder


def test_both_counters_see_each_expert():
    """Parameters and MACs of a stage are those of its own encoder and decoder, alone in a recipe."""
    recipe = tiny(*EXPERTS)
    found = msdk.budget(recipe, cache=False)
    assert (found.uncounted, found.disagreements) == ({}, ())
    for stage, costs in enumerate(found.stages):
        alone = attrs.evolve(
            recipe,
            encoder=recipe.encoder_of(stage),
            encoders=None,
            decoders=(recipe.decoders[stage],),
            stages=attrs.evolve(recipe.stages, edges_ratio=None),
            sharing="unified",
        )
        (one,) = msdk.budget(alone, cache=False).stages
        assert (costs.parameters, costs.costs) == (one.parameters, one.costs)
    network = msdk.build(recipe, "meta").network
    assert found.params == sum(parameter.numel() for parameter in network.parameters())
    assert found.parameters.shared == 0
    counted = msdk.budget(msdk.build(recipe, "meta"))
    assert [stage.macs for stage in counted.stages] == [stage.macs for stage in found.stages]
    assert len({stage.macs for stage in found.stages}) == 3


def test_a_run_of_experts_resumes(run, tmp_path):
    """Four steps in a go or in two halves, to the last bit; another encoder is refused by its key."""
    recipe: Recipe = tiny(*EXPERTS, SOFT, "data.held_out=0.1", "training.checkpoint_every=2")
    assert msdk.load_run(run).recipe.encoders == recipe.encoders
    half = attrs.evolve(recipe, training=attrs.evolve(recipe.training, iterations=2))
    msdk.train(half, tmp_path / "half", device="cpu")
    msdk.train(recipe, tmp_path / "half", device="cpu", resume=True, warn=lambda _: None)
    ours, theirs = (load_checkpoint(latest(folder)).model for folder in (run, tmp_path / "half"))
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    other = tiny(*EXPERTS, SOFT, "data.held_out=0.1", "training.checkpoint_every=2", "encoders.1.channels=12")
    with pytest.raises(msdk.errors.RunError, match=r"encoders\.1\.channels"):
        msdk.train(other, run, device="cpu", resume=True)


def test_h_space_compares_encoders_of_any_size(run):
    (space,) = h_space(run, images=16, levels=3, device="cpu").spaces
    assert space.encoder == "separate"
    assert space.sizes == ((16, 4, 4), (8, 4, 4), (4, 16))
    titles = [grid.title for grid in h_space_grids(h_space(run, images=16, levels=3, device="cpu"))]
    assert any("16 x 4 x 4, 8 x 4 x 4" in title for title in titles)


def test_commands_know_experts(run, capsys, monkeypatch, tmp_path):
    """Sampling, budgets with memory and a ledger, reports, differences, forks and starts."""
    code, out, err = quick(capsys, monkeypatch, "sample", run, "--seeds", "0-1", "--steps", "2", "--json")
    assert code == 0, err
    code, out, err = quick(capsys, monkeypatch, "budget", run, "--memory", "--json")
    assert code == 0, err
    (budget,) = json.loads(out)
    assert len({stage["params"]["encoder"] for stage in budget["stages"]}) == 3
    code, out, err = quick(capsys, monkeypatch, "recipe", "show", run)
    assert code == 0, err
    assert out.count("[[encoders]]") == 3
    code, out, err = quick(
        capsys,
        monkeypatch,
        "train",
        run,
        "--set",
        f"init.run={run}",
        "--set",
        "training.iterations=1",
        "--out",
        tmp_path / "x",
    )
    assert code == 0, err
    parts = json.loads((tmp_path / "x" / "lock.json").read_text())["started_from"]["parts"]
    assert parts == {f"{kind}.{stage}": f"{kind}.{stage}" for kind in ("encoders", "decoders") for stage in range(3)}


def test_any_number_of_processes_trains_the_same_experts(tmp_path):
    """Two processes get the weights of one, to 1e-12, with soft draws and experts that some steps lack."""
    recipe = tiny(*EXPERTS, SOFT, "training.warmup=0", "training.batch_size=4")
    one = trained(recipe, tmp_path / "one", 4)
    for found in processes(2, lambda: trained(recipe, tmp_path / "two", 4), tmp_path):
        assert found is not None
        for name, weight in one.weights.items():
            largest = max(float(value.abs().max()) for value in one.weights.values())
            torch.testing.assert_close(found.weights[name], weight, rtol=1e-12, atol=1e-12 * largest)
    assert any(len(set(stages.tolist())) < 3 for stages, _ in one.told)
