"""Promises of training with weights in shards: the same run, and each process keeps its rows alone."""

import os
import time

import attrs
import pytest
import torch
import torch.distributed.fsdp  # once, and not in each process that is forked
from parity import EVERYTHING, STILL, assert_same, trained
from processes import processes
from torch import nn

import msdk
from msdk.distributed import Group, this_rank, together
from msdk.encoders.unet_net import UNetEncoder
from msdk.errors import PartError, RunError
from msdk.optimizers.adamw import AdamW
from msdk.runs import latest, load_checkpoint
from msdk.training import beginning, loop
from msdk.training.sharding import refuse_whole
from recipes import tiny

SHARDS = ("training.parallel=fsdp", "training.warmup=0", "training.batch_size=8")
UVIT = (
    'encoder={name="uvit", width=16, heads=2, patch=2, depth=4}',
    'decoders=[{name="uvit", width=16, heads=2}, {name="uvit", width=24, heads=2}, {name="uvit", width=16, heads=2}]',
    "training.recompute=true",
    "training.mixed=false",
)
SEPARATE = (
    STILL,
    "sharing=separate",
    "training.objective={name='uncertainty'}",
    "training.stage_draw=uniform",
    "training.sanitize=true",
)


@pytest.mark.parametrize(
    ("count", "steps", "settings"),
    [
        (4, 4, (STILL, *EVERYTHING)),
        pytest.param(4, 20, (STILL, *EVERYTHING), marks=pytest.mark.slow),
        (2, 20, (STILL, "training.mixed=false")),
        (2, 5, SEPARATE),
        (2, 5, UVIT),
    ],
    ids=["everything", "everything-long", "absent-stages", "separate", "transformer"],
)
def test_shards_train_the_same_run(tmp_path, count, steps, settings):
    """Weights, averages and losses are those of one process; each keeps about its share, in uneven rows."""
    recipe = tiny(*settings, *SHARDS)
    one = trained(recipe, tmp_path, steps)
    found = processes(count, lambda: trained(recipe, tmp_path, steps), tmp_path)
    for each in found:
        assert_same(each, one)
        assert max(mine / total for mine, total in zip(each.kept, one.kept, strict=True)) < 1.2 / count
    assert [sum(kept) for kept in zip(*(each.kept for each in found), strict=True)] == list(one.kept)
    assert len({each.kept for each in found}) > 1


def test_half_precision_is_that_of_whole_weights(tmp_path):
    """Under bf16 the losses of a few steps are those of processes with all weights, up to the order of sums."""

    def losses(parallel):
        def work():
            recipe = tiny(STILL, *SHARDS, f"training.parallel={parallel}", "training.precision=bf16")
            with together(this_rank()) as group:
                trainer = loop.Trainer(recipe, tmp_path, recipe.data.open(), [], "cpu", group)
                return [float(group.total(trainer.advance()[1].sum())) for _ in range(3)]

        return processes(2, work, tmp_path)[0]

    assert losses("fsdp") == pytest.approx(losses("ddp"), rel=1e-4)


class WholeNorm(AdamW):
    """Moves each weight by its gradient over the norm of the weight's gradient."""

    def build(self, parameters, lr):
        return ByNorm(parameters, {"lr": lr})


class ByNorm(torch.optim.Optimizer):
    def step(self, closure=None):
        for group in self.param_groups:
            for weight in group["params"]:
                weight.data -= group["lr"] * weight.grad / weight.grad.norm()


def test_optimizers_that_look_at_whole_weights_are_refused():
    """Rows of a weight are no weight: that is found by trying, for any optimiser."""
    for name in ("adamw", "sgd"):
        refuse_whole(msdk.optimizers.get(name)())
    with pytest.raises(PartError, match=r'WholeNorm looks at whole weights.*training.parallel to "ddp"'):
        refuse_whole(WholeNorm())


def _tied(net):
    net.levels[1].blocks[0].norm0.weight = net.levels[0].blocks[0].norm0.weight


def _single(net):
    net.levels[0].gain = nn.Parameter(torch.tensor(1.0))


def _double(net):
    net.levels[0].gain = nn.Parameter(torch.ones(2, dtype=torch.float64))


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (_tied, "encoders.0.levels.1.blocks.0.norm0.weight is one weight of several parts"),
        (_single, "encoders.0.levels.0.gain is a number without an axis"),
        (_double, "encoders.0.levels.0.(.*) and encoders.0.levels.0.(.*) are numbers of two kinds"),
    ],
)
def test_weights_that_cannot_be_cut_are_refused(monkeypatch, change, told):
    """By name, before anything is cut; with all weights in each process they train."""
    real = UNetEncoder.__init__

    def changed(self, *given):
        real(self, *given)
        change(self)

    monkeypatch.setattr(UNetEncoder, "__init__", changed)
    recipe = tiny(STILL, *SHARDS)
    with pytest.raises(PartError, match=f'{told}.*set training.parallel to "ddp"'):
        loop.TrainingStep(recipe, loop.build(recipe), Group(attrs.evolve(this_rank(), count=2)))


def stopped(recipe, folder, *, dies):
    """What the others say where the second process ends, or stops answering, in the middle of a backward pass."""

    def work():
        beginning.PATIENCE = 0.05
        build, calls = loop.build, []

        def watched(*given):
            denoiser = build(*given)
            denoiser.network.decoders[1].register_forward_hook(lambda *call: stuck(call[2]))
            return denoiser

        def stuck(output):
            calls.append(1)
            if this_rank().index and len(calls) == 3:
                output.register_hook(lambda grad: os._exit(9) if dies else time.sleep(6))

        loop.build = watched
        try:
            msdk.train(recipe, folder / "run", device="cpu")
        except RunError as error:
            return str(error)

    return processes(2, work, folder)


@pytest.mark.parametrize(("parallel", "dies"), [("fsdp", True), ("ddp", False)])
def test_a_process_that_stops_in_a_backward_pass_ends_the_others_in_words(tmp_path, parallel, dies):
    """One that ends is noticed at once, one that hangs after a while; nothing that was saved is lost."""
    recipe = tiny(STILL, *SHARDS, f"training.parallel={parallel}", "training.checkpoint_every=1")
    told, other = stopped(recipe, tmp_path, dies=dies)
    assert "another process of this run ended, or cannot be reached" in told
    assert "Timed out" in told or dies
    assert (other is None) == dies
    assert load_checkpoint(latest(tmp_path / "run")).iteration >= 1
