"""Promises of the two ways to train with less memory: micro-batches and recomputed activations change no result."""

import subprocess
import sys
from pathlib import Path

import attrs
import pytest
import torch

import msdk
from msdk.denoiser.building import build
from msdk.errors import RecipeError
from msdk.runs import latest, load_checkpoint
from msdk.training.loop import Trainer
from recipes import latent, tiny

CONDITIONAL = (
    "encoder.classes=10",
    "encoder.augment=9",
    "training.label_dropout=0.3",
    "training.augment=0.5",
    "training.flip=true",
)
DIT = (
    'encoder={name="dit", width=16, heads=2, patch=2, depth=2, classes=10}',
    'decoders=[{name="dit", width=16, heads=2, depth=1}, {name="dit", width=24, heads=2, depth=2}, '
    '{name="dit", width=16, heads=2, depth=1}]',
)
UVIT = (
    'encoder={name="uvit", width=16, heads=2, patch=2, depth=4}',
    'decoders=[{name="uvit", width=16, heads=2}, {name="uvit", width=24, heads=2}, {name="uvit", width=16, heads=2}]',
)


def gradients(recipe, tmp_path, **training):
    """The gradients after one step of the real loop without clipping, and the recipe's trainer."""
    recipe = attrs.evolve(recipe, training=attrs.evolve(recipe.training, clip_norm=0.0, **training))
    trainer = Trainer(recipe, tmp_path, recipe.data.open(), [], "cpu")
    with torch.random.fork_rng():
        work, values = trainer.advance()
    return {name: p.grad for name, p in trainer.step.trained["network"].named_parameters()}, work.stages, values


@pytest.mark.parametrize("accumulation", [2, 8])
@pytest.mark.parametrize("kind", [CONDITIONAL, ("sharing=separate",), ("training.mixed=false",), DIT, UVIT])
def test_micro_batches_make_the_same_step(tmp_path, kind, accumulation):
    """Images, noise, stages and losses of a step do not depend on accumulation; gradients but by rounding."""
    recipe = tiny(*kind)
    whole, stages, values = gradients(recipe, tmp_path)
    parts, same_stages, same_values = gradients(recipe, tmp_path, accumulation=accumulation)
    assert torch.equal(stages, same_stages)
    torch.testing.assert_close(values, same_values, rtol=1e-5, atol=1e-6)
    for name, grad in whole.items():
        assert (grad is None) == (parts[name] is None), name
        if grad is not None:
            torch.testing.assert_close(parts[name], grad, rtol=1e-4, atol=1e-6 + 1e-5 * float(grad.abs().max()))


def test_micro_batches_of_latents(tmp_path):
    """An autoencoder encodes one micro-batch at a time, with the same losses."""
    recipe = latent(tmp_path)
    _, _, values = gradients(recipe, tmp_path)
    _, _, same = gradients(recipe, tmp_path, accumulation=4)
    torch.testing.assert_close(values, same, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("kind", [CONDITIONAL, ("sharing=separate", "training.precision=bf16"), DIT, UVIT])
def test_recomputed_activations_change_no_bit(tmp_path, kind):
    """Gradients with recompute equal those without, bit for bit, with dropout and micro-batches too."""
    recipe = tiny(*kind, *(() if "dit" in kind[0] or "uvit" in kind[0] else ("encoder.dropout=0.3",)))
    recipe = attrs.evolve(recipe, training=attrs.evolve(recipe.training, accumulation=2))
    kept, _, values = gradients(recipe, tmp_path)
    again, _, same = gradients(recipe, tmp_path, recompute=True)
    assert torch.equal(values, same)
    assert all((grad is again[name]) or torch.equal(grad, again[name]) for name, grad in kept.items())


@pytest.mark.parametrize("kind", [(), DIT, UVIT])
def test_recompute_is_no_part_of_the_network(kind):
    """State dict, count and samples are those of the network without it."""
    recipe = tiny(*kind)
    plain, denoiser = build(recipe), build(recipe).train()
    denoiser.network.set_recompute(True)
    assert denoiser.state_dict().keys() == plain.state_dict().keys()
    assert msdk.budget(denoiser).as_json() == msdk.budget(plain).as_json()
    images = [msdk.sample(each.eval(), recipe.sampler, 2, [0, 1]) for each in (plain, denoiser)]
    assert torch.equal(*images)


@pytest.mark.slow
def test_a_stage_that_recomputes_is_one_graph():
    """A compiler sees a stage that recomputes without a break, and finds the same gradients."""
    # In a process of its own: shape checks, which tests switch on, are no graph.
    program = f"""
import sys, torch
sys.path[:0] = [{str(Path(__file__).parent)!r}, {str(Path(__file__).parent.parent)!r}]
from msdk.denoiser.building import build
from recipes import tiny
from test_step import DIT, UVIT
for kind in ((), DIT, UVIT):
    denoiser = build(tiny(*kind)).train()
    denoiser.network.set_recompute(True)
    torch._dynamo.reset()
    stage = denoiser.stage(1)
    x, c_noise = torch.randn(3, 1, 8, 8), torch.rand(3)
    found = []
    for run in (torch.compile(stage, backend="aot_eager", fullgraph=True), stage):
        run(x, c_noise).square().sum().backward()
        found.append([parameter.grad for parameter in stage.parameters()])
        stage.zero_grad()
    for ours, theirs in zip(*found):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)
    print(sum(grad is not None for grad in found[0]) > 10)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["True"] * 3


@pytest.mark.parametrize("settings", ["training.accumulation=4", "training.recompute=true"])
def test_resume_is_exact(tmp_path, settings):
    """Training 2N steps equals training N, stopping and resuming, in micro-batches and with recompute too."""
    recipe = tiny(settings, "encoder.dropout=0.3")

    def steps(count):
        return attrs.evolve(recipe, training=attrs.evolve(recipe.training, iterations=count))

    msdk.train(steps(4), tmp_path / "whole")
    msdk.train(steps(2), tmp_path / "halves")
    msdk.train(steps(4), tmp_path / "halves", resume=True)
    whole, halves = (load_checkpoint(latest(tmp_path / name)) for name in ("whole", "halves"))
    for part in ("model", "ema", "optimizer"):
        ours, theirs = getattr(whole, part), getattr(halves, part)
        assert all(torch.equal(ours[key], theirs[key]) for key in ours), part


def test_a_run_goes_on_with_less_memory(tmp_path):
    """What ran out of memory may be resumed in micro-batches and with recompute: the run stays the same one."""
    msdk.train(tiny("training.iterations=2"), tmp_path / "run")
    less = tiny("training.iterations=4", "training.accumulation=2", "training.recompute=true")
    assert msdk.train(less, tmp_path / "run", resume=True).last.iteration == 4


def test_micro_batches_must_be_of_one_size():
    """A batch that does not split is told with the path, both numbers and a number that works."""
    with pytest.raises(RecipeError, match=r"training.accumulation +a batch_size of 8 cannot be cut into 6 .* use 4"):
        tiny("training.accumulation=6")
    with pytest.raises(RecipeError, match=r"training.accumulation .* use 8"):
        tiny("training.accumulation=16")
