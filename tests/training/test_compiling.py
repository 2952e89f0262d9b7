"""Promises of training.compile: one graph for each part whatever the batch, and the same training."""

import subprocess
import sys
from pathlib import Path

import pytest

COUNTED = """
import sys, torch
sys.path.insert(0, {tests!r})
from torch._dynamo.testing import CompileCounterWithBackend
from msdk.batch import Condition
from msdk.denoiser.building import build
from msdk.training import compiling
from recipes import tiny

compiling.BACKEND = counted = CompileCounterWithBackend("{backend}")
network = build(tiny(*{settings!r})).train().network
plain = {{name: value.clone() for name, value in network.state_dict().items()}}
x, c_noise, label = torch.randn(8, 1, 8, 8), torch.rand(8, dtype=torch.float64), Condition(torch.arange(8))
label = label if {classes} else None
mixes = [[0, 1, 2, 0, 1, 2, 0, 1], [0] * 8, [1] * 8, [2] * 8, [0] * 7 + [2], [1] + [2] * 7, [2, 1, 0] + [2] * 5]
mixes += [[0] * 3 + [1] * 5, [0, 1], [2], [1, 1, 2]]

def gradients(mix):
    network.zero_grad(set_to_none=True)
    given = None if label is None else label.select(torch.arange(len(mix)))
    network.route(x[: len(mix)], c_noise[: len(mix)], torch.tensor(mix), given).square().sum().backward()
    return {{name: weight.grad for name, weight in network.named_parameters()}}

wanted = [gradients(mix) for mix in mixes]
compiling.compile_parts(network)
for mix, theirs in zip(mixes, wanted, strict=True):
    ours = gradients(mix)
    for name, grad in ours.items():
        assert (grad is None) == (theirs[name] is None), (mix, name)
        if grad is not None:
            torch.testing.assert_close(grad, theirs[name], rtol=1e-3, atol=1e-4)
assert network.state_dict().keys() == plain.keys()
print(counted.frame_count, len(network.encoders) + len(network.adapters) + len(network.decoders))
"""


def counted(*settings, backend="eager"):
    """Graphs and parts of a network after batches of many mixes, whose gradients are those that it has uncompiled."""
    # In a process of its own: shape checks, which tests switch on, are no graph.
    program = COUNTED.format(
        tests=str(Path(__file__).parent.parent),
        backend=backend,
        settings=settings,
        classes=any("classes" in each for each in settings),
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return tuple(map(int, done.stdout.split()))


def test_a_part_is_one_graph():
    """A shared encoder and three decoders are four graphs over batches of any mix: one image, absent stages."""
    assert counted("encoder.classes=10", "encoder.dropout=0.0") == (4, 4)


DIT = (
    'encoder={name="dit", width=16, heads=2, patch=2, depth=1}',
    'decoders=[{name="dit", width=16, heads=2, depth=1}, {name="dit", width=8, heads=2, depth=1}, '
    '{name="dit", width=8, heads=2, depth=1}]',
)


@pytest.mark.slow
@pytest.mark.parametrize(
    "settings",
    [
        ("sharing=separate", "training.recompute=true"),
        DIT,
        ("adapter.channels=[8, 8]",),
    ],
)
def test_other_networks_are_one_graph_a_part(settings):
    """So are separate encoders, transformers and adapters, with their backward passes."""
    graphs, parts = counted(*settings, backend="aot_eager")
    assert graphs == parts


TRAINED = """
import json, sys, torch
sys.path.insert(0, {tests!r})
import msdk
from msdk.runs import latest, load_checkpoint
from msdk.training import compiling
from recipes import tiny

compiling.BACKEND = "eager"
settings = ["training.accumulation=2", "training.recompute=true", "training.clip_norm=0.1", "encoder.dropout=0.0"]
settings += ["decoders=[{{name='ddpmpp', channels=8}}, {{name='ddpmpp', channels=4}}]", "stages.edges_ratio=[0.8]"]

def trained(name, steps, compiled):
    recipe = tiny(*settings, f"training.iterations={{steps}}", f"training.compile={{compiled}}")
    run = {folder!r} + "/" + name
    return load_checkpoint(latest(msdk.train(recipe, run, resume=True).run_dir)), msdk.load_run(run)

plain, _ = trained("plain", 4, "false")
whole, denoiser = trained("whole", 4, "true")
trained("halves", 2, "true")
halves, _ = trained("halves", 4, "true")
trained("later", 2, "false")
later, _ = trained("later", 4, "true")
for part in ("model", "ema", "optimizer"):
    ours = getattr(whole, part)
    assert ours.keys() == getattr(plain, part).keys()
    for name, value in ours.items():
        assert torch.equal(value, getattr(halves, part)[name]), (part, name)
def losses(name):
    lines = open({folder!r} + "/" + name + "/metrics.jsonl").read().splitlines()
    return torch.tensor([json.loads(line)["loss"] for line in lines])
for name in ("whole", "halves", "later"):
    torch.testing.assert_close(losses(name), losses("plain"), rtol=1e-4, atol=1e-5)
assert all(part._compiled_call_impl is None for part in denoiser.modules())
"""


@pytest.mark.slow
def test_training_goes_on_compiled(tmp_path):
    """Compiled training resumes bit for bit, also what was not compiled, and leaves checkpoints like any other."""
    program = TRAINED.format(tests=str(Path(__file__).parent.parent), folder=str(tmp_path))
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
