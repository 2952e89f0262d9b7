"""Promises of memory estimates: sizes that are exact, laws of batches, and the real step behind them."""

import functools
import json
import subprocess
import sys

import attrs
import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

import msdk
from msdk.budgeting.backward import stage_flops
from msdk.budgeting.memory import expected_counts
from msdk.budgeting.memory import memory as simulated_memory
from msdk.budgeting.simulating import Live, simulated
from msdk.budgeting.trials import started, trial
from msdk.denoiser.building import build
from msdk.errors import PartError
from msdk.training.loop import Trainer
from recipes import AUTOENCODER, latent, tiny

DIT = (
    'encoder={name="dit", width=16, heads=2, patch=2, depth=2, classes=10}',
    'decoders=[{name="dit", width=16, heads=2, depth=1}, {name="dit", width=24, heads=2, depth=2}, '
    '{name="dit", width=16, heads=2, depth=1}]',
)
UVIT = (
    'encoder={name="uvit", width=16, heads=2, patch=2, depth=4}',
    'decoders=[{name="uvit", width=16, heads=2}, {name="uvit", width=24, heads=2}, {name="uvit", width=16, heads=2}]',
)
KINDS = {
    "shared": (),
    "separate": ("sharing=separate",),
    "unified": ('decoders=[{name="ddpmpp", channels=8}]', "stages.edges_ratio=[]"),
    "classes": ("encoder.classes=10", "training.label_dropout=0.1", "sampling.guidance=2.0"),
    "augment": ("encoder.augment=9", "training.augment=0.5"),
    "adapter": ("adapter.channels=[8, 8]",),
    "latent": (f"autoencoder={AUTOENCODER}}}",),
    "dit": DIT,
    "uvit": UVIT,
}
memory = functools.lru_cache(maxsize=None)(simulated_memory)
"""Several laws are about the same recipe."""

every_kind = pytest.mark.parametrize("kind", KINDS)


def with_training(recipe, **changes):
    return attrs.evolve(recipe, training=attrs.evolve(recipe.training, **changes))


@every_kind
def test_what_is_held_throughout_is_exact(kind):
    """Weights, gradients, Adam's state, averages and the frozen autoencoder, to the byte."""
    recipe = tiny(*KINDS[kind])
    found, denoiser = memory(recipe), build(recipe)
    weights = list(denoiser.network.parameters())
    size = 4 * sum(parameter.numel() for parameter in weights)
    assert (found.held.params, found.held.ema) == (size, size)
    trained = [parameter for parameter in weights if parameter.requires_grad]
    assert found.held.gradients == 4 * sum(parameter.numel() for parameter in trained)
    optimizer = torch.optim.AdamW(trained, fused=True)
    for parameter in trained:
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    state = [value for each in optimizer.state.values() for value in each.values()]
    assert found.held.optimizer == sum(value.numel() * value.element_size() for value in state)
    frozen = denoiser.autoencoder
    assert found.held.autoencoder == (0 if frozen is None else 4 * sum(p.numel() for p in frozen.parameters()))


@every_kind
def test_estimates_of_every_kind(kind):
    """A peak lies above what is held and below what all stages at once would take; its plain data are as documented."""
    found = memory(tiny(*KINDS[kind]))
    held = found.held.params + found.held.gradients + found.held.optimizer + found.held.ema + found.held.autoencoder
    largest = max(stage.peak for stage in found.stages)
    assert held - found.held.gradients < found.peak <= largest + held
    assert 0 < found.sampling_peak < found.peak + found.held.autoencoder + found.held.params + 10**7
    data = json.loads(json.dumps(found.as_json()))
    assert set(data["bytes"]) == {"params", "gradients", "optimizer", "ema", "autoencoder"}
    assert [stage["index"] for stage in data["stages"]] == list(range(len(found.stages)))
    assert all(1.8 < ratio < 2.1 for ratio in data["backward_over_forward"]), data["backward_over_forward"]


@pytest.mark.parametrize("kind", ["shared", "dit", "uvit"])
def test_activations_grow_with_the_batch(kind):
    """Twice the images save twice the activations, but for what all of them share."""
    recipe = tiny(*KINDS[kind])
    small, large = memory(recipe, batch=16), memory(recipe, batch=32)
    for ours, theirs in zip(large.stages, small.stages, strict=True):
        assert ours.activations == pytest.approx(2 * theirs.activations, rel=0.04)
        assert theirs.activations == pytest.approx(16 * theirs.activations_per_image, rel=0.04)
    assert small.held.params == large.held.params
    assert small.peak < large.peak


@pytest.mark.parametrize("kind", ["shared", "dit", "uvit"])
def test_ways_to_save_memory_save_it(kind):
    """bf16, recomputation and micro-batches each lower the peak of the same step."""
    recipe = tiny(*KINDS[kind], "training.batch_size=64")
    plain = memory(recipe)
    half = memory(recipe, dtype="bf16")
    again = memory(with_training(recipe, recompute=True))
    pieces = memory(with_training(recipe, accumulation=8))
    for less in (half, again, pieces):
        assert less.peak < plain.peak
        assert less.held.params == plain.held.params
    assert all(a.activations < b.activations for a, b in zip(again.stages, plain.stages, strict=True))
    assert pieces.micro_batch == 8
    assert [stage.activations_per_image for stage in pieces.stages] == [
        stage.activations_per_image for stage in plain.stages
    ]


def test_a_shared_encoder_is_held_once():
    """A separate encoder for each stage costs its weights and their states again."""
    shared, separate = memory(tiny()), memory(tiny("sharing=separate"))
    encoder = 4 * sum(parameter.numel() for parameter in build(tiny()).network.encoders.parameters())
    assert separate.held.params - shared.held.params == 2 * encoder
    assert separate.held.ema - shared.held.ema == 2 * encoder


def test_mixed_batches_have_the_expected_images():
    """Shares by largest remainders, and at least one image of each stage that is drawn at all."""
    assert expected_counts(10, [0.61, 0.29, 0.1]) == {0: 6, 1: 3, 2: 1}
    assert expected_counts(8, [0.97, 0.02, 0.01]) == {0: 6, 1: 1, 2: 1}
    assert expected_counts(2, [0.2, 0.5, 0.3]) == {1: 1, 2: 1}
    assert expected_counts(4, [0.0, 1.0, 0.0]) == {1: 4}


@pytest.mark.parametrize(
    ("kind", "changes"),
    [
        *((kind, {}) for kind in ("shared", "classes", "augment", "latent", "dit", "uvit")),
        *((kind, {"accumulation": 2}) for kind in ("shared", "uvit")),
        *((kind, {"recompute": True}) for kind in ("shared", "uvit")),
    ],
)
def test_the_simulated_step_is_the_real_one(kind, changes, tmp_path):
    """The real step of training, followed operator by operator, peaks where the simulated one does, to 3 %."""
    settings = ("training.batch_size=32", "training.mixed=false")
    recipe = latent(tmp_path, *settings) if kind == "latent" else tiny(*KINDS[kind], *settings)
    recipe = with_training(recipe, **changes)
    with torch.random.fork_rng():
        trainer = Trainer(recipe, tmp_path, recipe.data.open(), [], "cpu")
        for _ in range(2):
            trainer.advance()
        live = Live(FakeTensorMode())
        for tensor in held_by(trainer):
            live._see(tensor.untyped_storage())
        before = live.now
        with live:
            work, _ = trainer.advance()
        real = live.peak - before
    stage = int(work.stages[0])
    simulated_peak = peak_above_held(recipe, stage, len(work.stages) // recipe.training.accumulation)
    assert simulated_peak == pytest.approx(real, rel=0.03)


def held_by(trainer):
    """Everything that lives between two steps."""
    step = trainer.step
    yield from step.denoiser.parameters()
    yield from step.denoiser.buffers()
    for parameter in step.trained.parameters():
        if parameter.grad is not None:
            yield parameter.grad
    for state in step.optimizer.state.values():
        yield from (value for value in state.values() if isinstance(value, torch.Tensor))
    yield from step.ema.averages


def peak_above_held(recipe, stage, micro):
    denoiser = build(recipe, "meta").train()
    with simulated(denoiser) as (copied, live):
        step = started(recipe, copied)
        counts = [{stage: micro}] * recipe.training.accumulation
        step(*trial(recipe, copied, counts), 0)
        before = live.peak = live.now
        step(*trial(recipe, copied, counts), 0)
        return live.peak - before


class Sorted(nn.Module):
    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def forward(self, x, c_noise, label=None, augment=None):
        found = self.inner(x, c_noise, label)
        return found if bool(found.bottom.sum() > 0) else found._replace(bottom=-found.bottom)


def test_what_cannot_be_simulated_is_told(monkeypatch):
    """The message has module, operator and what to do; the caller's random state is as it was."""
    recipe = tiny()
    real = type(recipe.encoder).build
    monkeypatch.setattr(type(recipe.encoder), "build", lambda self, shape: Sorted(real(self, shape)))
    state = torch.random.get_rng_state()
    with pytest.raises(PartError, match=r"\(Sorted\) cannot be simulated: .*must not read or branch on values"):
        simulated_memory(recipe)
    assert torch.equal(torch.random.get_rng_state(), state)


def test_a_batch_that_does_not_split_is_told():
    """Micro-batches are of one size, for a batch that is asked for, too."""
    with pytest.raises(PartError, match="a batch of 6 cannot be cut into 4 micro-batches"):
        memory(tiny("training.accumulation=4"), batch=6)


def test_simulation_leaves_no_trace():
    """The denoiser that is simulated keeps its mode, its gradients, its hooks and its weights."""
    recipe, denoiser = tiny("encoder.dropout=0.1"), build(tiny()).eval()
    before = {name: value.clone() for name, value in denoiser.state_dict().items()}
    state = torch.random.get_rng_state()
    stage_flops(recipe, denoiser)
    assert not denoiser.training
    assert all(parameter.grad is None for parameter in denoiser.parameters())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in denoiser.modules())
    assert all(torch.equal(value, before[name]) for name, value in denoiser.state_dict().items())
    assert torch.equal(torch.random.get_rng_state(), state)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["unet", "dit"])
def test_the_estimate_is_the_measured_peak(name):
    """Real training of a U-Net and of a transformer, in processes of their own: within 15 %."""
    done = subprocess.run(
        [sys.executable, "benchmarks/bench_memory.py", name, "--in-use"], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)["results"][name]
    assert abs(found["relative_difference"]) < 0.15


@pytest.mark.golden
@pytest.mark.parametrize(
    ("recipe", "config"),
    [("cifar10/dpm-unified", "sde_ddpmpp_deep_nf128"), ("cifar10/edm-multistage", "edm_ms3_192_128_16_cres222")],
)
def test_activations_beside_the_published_networks(recipe, config, outside_data):
    """Networks written otherwise save other tensors, but never more than the published ones do."""
    theirs = json.loads((outside_data / "golden" / "flops.json").read_text())["configs"][config]["stages"]
    found = memory(msdk.load_recipe(f"recipes/{recipe}.toml"), batch=1)
    for ours, stage in zip(found.stages, theirs, strict=True):
        saved = stage["training"]["saved_activation_bytes_per_image_fp32_train"]
        assert 0.5 < ours.activations_per_image / saved < 1.05
        assert found.as_json()["backward_over_forward"][ours.index] == pytest.approx(
            stage["training"]["backward_over_forward"], abs=0.01
        )


def test_nothing_lives_before_the_first_operator():
    """Bytes are counted from 0, and the peak is never below what is alive."""
    live = Live(FakeTensorMode())
    assert (live.now, live.peak) == (0, 0)
    with live.fake, live:
        kept = torch.empty(8, dtype=torch.float32)
    assert (live.now, live.peak) == (32, 32)
    del kept
