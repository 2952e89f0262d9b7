"""timm's optimisers and schedulers in msdk's training: the kit's laws, and resuming."""

import math

import pytest
import torch

import msdk
from msdk import testing
from msdk.errors import PartError, RunError
from msdk.runs import latest, load_checkpoint
from msdk.training import train
from msdk_timm.lr_schedule import TimmLRSchedule
from msdk_timm.optimizer import TimmOptimizer

OPTIMIZERS = ("adamw", "nadamw", "lamb", "lion", "adan", "sgdw", "radam", "adabelief", "adopt", "adafactor", "muon")


@pytest.mark.parametrize("law", testing.laws("optimizer"))
@pytest.mark.parametrize("opt", OPTIMIZERS)
def test_optimizers_keep_the_laws(opt, law):
    """A choice of those that timm makes, one of each family."""
    law(TimmOptimizer(opt=opt, weight_decay=0.01))


@pytest.mark.parametrize("law", testing.laws("lr_schedule"))
@pytest.mark.parametrize("sched", ["cosine", "tanh", "step", "poly"])
def test_schedules_keep_the_laws(sched, law):
    """Every scheduler that is a function of the step."""
    law(TimmLRSchedule(sched=sched))


def test_decay_spares_biases_and_norms():
    """Weights of one dimension are not decayed, as timm has it."""
    weights = [torch.nn.Parameter(torch.ones(3, 3)), torch.nn.Parameter(torch.ones(3))]
    rule = TimmOptimizer(opt="adamw", weight_decay=0.5).build(weights, 0.1)
    assert [(group["params"][0].ndim, group["weight_decay"]) for group in rule.param_groups] == [(2, 0.5), (1, 0.0)]


def test_the_schedule_is_timms():
    """Cosine and step equal their closed forms."""
    cosine = TimmLRSchedule(sched="cosine", min_lr=0.1)
    expected = [0.1 + 0.9 * (1 + math.cos(math.pi * i / 100)) / 2 for i in range(100)]
    assert [cosine.factor(i, 100) for i in range(100)] == pytest.approx(expected, rel=1e-9)
    step = TimmLRSchedule(sched="step", decay=0.5, every=0.25)
    assert [step.factor(i, 100) for i in (0, 24, 25, 50, 99)] == pytest.approx([1, 1, 0.5, 0.25, 0.125])


def test_an_unknown_optimizer_names_the_nearest():
    """Timm's own error would be a traceback."""
    with pytest.raises(PartError, match=r"timm has no optimiser named 'lambda'\. Did you mean .*'lamb'"):
        TimmOptimizer(opt="lambda").build([torch.nn.Parameter(torch.ones(2))], 0.1)


@pytest.mark.parametrize("opt", ["lamb", "adan"])
def test_training_resumes_exactly(tmp_path, opt):
    """State that is numbers, and counters of groups, are in the checkpoint."""
    settings = [
        f'training.optimizer={{name="timm", opt="{opt}"}}',
        'training.lr_schedule={name="timm", sched="poly"}',
        "encoder.channels=8",
        "decoders.0.channels=8",
        "training.batch_size=4",
        "training.iterations=6",
        "training.checkpoint_every=3",
        "training.keep=2",
    ]
    recipe = msdk.load_recipe("recipes/digits/unified.toml", settings)
    train(recipe, tmp_path / "run")
    whole = load_checkpoint(latest(tmp_path / "run"))
    newest = latest(tmp_path / "run")
    for file in newest.iterdir():
        file.unlink()
    newest.rmdir()
    train(recipe, tmp_path / "run", resume=True)
    again = load_checkpoint(latest(tmp_path / "run"))
    assert again.iteration == whole.iteration == 6
    assert all(torch.equal(value, again.model[key]) for key, value in whole.model.items())
    assert again.optimizer_numbers == whole.optimizer_numbers


@pytest.mark.filterwarnings("ignore:.*opt_einsum")
def test_state_that_cannot_be_kept_is_told(tmp_path, monkeypatch):
    """Kron's preconditioners are lists: a run that could not be resumed ends with the reason after its first step."""
    settings = ["training.iterations=5", 'training.optimizer={name="timm", opt="kron"}']
    # Kron compiles for every shape of weights, and its products grow with their cubes: few, small and as they are.
    settings += ["encoder.channels=4", "encoder.channel_mult=[1]", "encoder.blocks=1", "encoder.attention=[]"]
    settings += ['decoders=[{name="ddpmpp", channels=4}]']
    monkeypatch.setattr(torch, "compile", lambda function, **_: function)
    recipe = msdk.load_recipe("recipes/digits/unified.toml", settings)
    with pytest.raises(RunError, match="keeps 'Q' of a weight as list, which checkpoints do not hold"):
        train(recipe, tmp_path / "run")


def test_a_typo_is_told_before_a_run_is_made(tmp_path):
    """The optimiser is built before a run folder is."""
    recipe = msdk.load_recipe("recipes/digits/unified.toml", ['training.optimizer={name="timm", opt="adamww"}'])
    with pytest.raises(PartError, match="Did you mean"):
        train(recipe, tmp_path / "run")
    assert not (tmp_path / "run").exists()
