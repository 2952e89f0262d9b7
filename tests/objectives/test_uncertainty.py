"""Promises of the learned uncertainty: an objective's own weights are trained, averaged, saved and resumed."""

import attrs
import pytest
import torch
from safetensors.torch import load_file

import msdk
from msdk.batch import Batch
from msdk.budgeting.memory import memory
from msdk.budgeting.questions import Question
from msdk.budgeting.solving import solve
from msdk.denoiser.building import build
from msdk.objectives.base import Draw
from msdk.objectives.denoising import Denoising
from msdk.objectives.uncertainty import Uncertainty
from msdk.runs import latest, load_checkpoint
from msdk.training.step import TrainingStep
from recipes import tiny

OWN = 'training.objective={name="uncertainty", channels=16}'


def longer(recipe, iterations):
    return attrs.evolve(recipe, training=attrs.evolve(recipe.training, iterations=iterations))


def inputs(recipe, denoiser, times):
    generator = torch.Generator().manual_seed(0)
    x_0, noise = torch.randn(2, len(times), *denoiser.shape, generator=generator)
    weights = recipe.weighting.weight(denoiser.schedule, times)
    return Batch(x_0), Draw(denoiser.partition.at(times, denoiser.schedule), times, weights, noise)


def test_the_loss_is_scaled_by_what_is_learned():
    """exp(-u) L + u; with u = 0, where it starts, the loss is that of denoising."""
    recipe = tiny(OWN)
    denoiser = build(recipe)
    batch, draw = inputs(recipe, denoiser, torch.tensor([0.02, 0.4, 0.9], dtype=torch.float64))
    loss, plain = (spec.build(denoiser) for spec in (Uncertainty(channels=16), Denoising()))
    of_denoising = plain.loss(batch, draw, denoiser)
    torch.testing.assert_close(loss.loss(batch, draw, denoiser), of_denoising)
    torch.nn.init.normal_(loss.weight, generator=torch.Generator().manual_seed(1))
    u = loss.log_variance(denoiser.schedule.ratio(draw.times).float())
    assert len(u.unique()) == 3
    torch.testing.assert_close(loss.loss(batch, draw, denoiser), of_denoising * (-u).exp() + u)


def test_it_learns_the_logarithm_of_the_loss():
    """With the network at rest, u comes to the logarithm of each level's loss, where a level's loss is 1 + u."""
    recipe = tiny(OWN)
    denoiser = build(recipe).requires_grad_(False)
    batch, draw = inputs(recipe, denoiser, torch.tensor([0.02, 0.4, 0.9], dtype=torch.float64))
    weights = torch.tensor([0.01, 1.0, 30.0], dtype=torch.float64) * draw.weights
    draw = attrs.evolve(draw, weights=weights)
    loss = Uncertainty(channels=64).build(denoiser)
    rule = torch.optim.Adam(loss.parameters(), lr=0.05)
    for _ in range(400):
        rule.zero_grad()
        loss.loss(batch, draw, denoiser).mean().backward()
        rule.step()
    wanted = Denoising().build(denoiser).loss(batch, draw, denoiser).log()
    torch.testing.assert_close(
        loss.log_variance(denoiser.schedule.ratio(draw.times).float()), wanted, atol=0.02, rtol=0
    )


@pytest.mark.parametrize("settings", [(), ("training.precision=bf16", "training.accumulation=2")])
def test_its_weights_resume_exactly(tmp_path, settings):
    """Trained, averaged, and after N steps and N more what they are after 2N: every tensor, bit for bit."""
    recipe = tiny(OWN, *settings)
    msdk.train(longer(recipe, 6), tmp_path / "whole")
    msdk.train(longer(recipe, 3), tmp_path / "halves")
    msdk.train(longer(recipe, 6), tmp_path / "halves", resume=True)
    whole, halves = (load_checkpoint(latest(tmp_path / name)) for name in ("whole", "halves"))
    owned, fixed = ("weight", "bias"), ("frequencies", "phases")
    assert set(whole.objective) == {f"raw/{name}" for name in owned + fixed} | {f"ema/{name}" for name in owned}
    for part in ("model", "ema", "optimizer", "objective"):
        ours, theirs = getattr(whole, part), getattr(halves, part)
        assert ours.keys() == theirs.keys()
        assert all(torch.equal(ours[key], theirs[key]) for key in ours), part
    raw, average = whole.objective["raw/weight"], whole.objective["ema/weight"]
    assert raw.any()
    assert average.any()
    assert not torch.equal(raw, average)
    assert {"exp_avg/objective.weight", "exp_avg/objective.bias"} <= set(whole.optimizer)
    torch.testing.assert_close(whole.objective["raw/frequencies"], Uncertainty(channels=16).build(None).frequencies)


def test_samplers_do_not_see_it(tmp_path):
    """A run's denoiser is its network alone, whatever its objective owned."""
    recipe = tiny(OWN)
    msdk.train(recipe, tmp_path / "run")
    for offload in (False, True):
        denoiser = msdk.load_run(tmp_path / "run", offload=offload)
        assert torch.isfinite(msdk.sample(denoiser, recipe.sampler, 2, [0])).all()


def test_another_objective_is_refused(tmp_path):
    """A run goes on with the objective that it began with."""
    msdk.train(tiny(OWN), tmp_path / "run")
    with pytest.raises(msdk.MsdkError, match="another recipe, with other training"):
        msdk.train(longer(tiny(), 8), tmp_path / "run", resume=True)


def test_its_step_is_simulated():
    """Weights of its own come on top, with their gradients, moments and average; activations of networks do not."""
    plain, own = memory(tiny()), memory(tiny('training.objective={name="uncertainty", channels=4096}'))
    for before, after in zip(plain.stages, own.stages, strict=True):
        assert after.peak - before.peak >= 5 * 4 * 4096
        assert after.activations == before.activations


@pytest.mark.golden
def test_it_is_the_function_of_edm2(outside_data):
    """With EDM2's frequencies, phases and vector of length 1, u is its log-variance (kept as float16 there)."""
    folders = sorted((outside_data / "golden/more/networks").glob("edm2_*"))
    assert folders
    for folder in folders:
        state, calls = load_file(folder / "state.safetensors"), load_file(folder / "io.safetensors")
        vector = state["logvar_linear.weight"].flatten().double()
        loss = Uncertainty(channels=len(vector)).build(None).double()
        loss.load_state_dict(
            {
                "frequencies": state["logvar_fourier.freqs"].double(),
                "phases": state["logvar_fourier.phases"].double(),
                "weight": vector / vector.norm(),
                "bias": torch.zeros(1),
            }
        )
        ratios = calls["call1.sigma"].flatten().double()
        expected = calls["call1.logvar_f64"].flatten()
        torch.testing.assert_close(loss.log_variance(ratios).expand_as(expected), expected, rtol=3e-4, atol=3e-4)


def test_its_weights_are_in_budgets():
    """Gradients, optimiser and averages have the objective's 17 numbers, in every output; the model has not."""
    plain, recipe = tiny(), tiny(OWN)
    before, after = msdk.budget(plain), msdk.budget(recipe)
    assert after.params == before.params
    assert after.trained_params - before.trained_params == 17
    assert after.parameters.ema - before.parameters.ema == 17
    assert after.optimizer_params - before.optimizer_params == 34
    assert after.training.total_flops == before.training.total_flops
    step = TrainingStep(recipe, build(recipe))
    assert after.trained_params == sum(each.numel() for each in step.trained.parameters())
    assert after.parameters.ema == sum(each.numel() for each in step.ema.averages)
    old, new = memory(plain).held, memory(recipe).held
    counters = 2 * 4  # AdamW counts the steps of each tensor
    found = (new.params - old.params, new.gradients - old.gradients, new.optimizer - old.optimizer, new.ema - old.ema)
    assert found == (68, 68, 136 + counters, 68)
    target = Question(target=4 * 2**20, what="memory", tolerance=0.5)
    values = [solve(each, target).candidates[0].value for each in (plain, recipe)]
    assert values[1] - values[0] == 68 * 5
