"""Promises of iDDPM's hybrid loss: variances that learn. tests/golden_more holds it to the published program."""

import numpy as np
import pytest
import torch

import msdk
from msdk.batch import Batch
from msdk.budgeting.memory import memory
from msdk.errors import PartError, RecipeError
from msdk.objectives.base import Draw
from msdk.objectives.hybrid_vlb import HybridVLB
from msdk.runs import latest, load_checkpoint
from recipes import tiny

VARIANCE = (
    'decoders=[{name="ddpmpp", channels=12, variance=true}, {name="ddpmpp", channels=8, variance=true}, '
    '{name="ddpmpp", channels=4, variance=true}]'
)
HYBRID = (VARIANCE, 'schedule={name="vp-discrete"}', 'training.objective={name="hybrid-vlb"}')


def test_it_trains_the_variance(tmp_path):
    """The rows of the last layer that predict the variance move and their average is saved; the run resumes exactly."""
    recipe = tiny(*HYBRID, "training.iterations=6")
    msdk.train(recipe, tmp_path / "whole")
    trained = load_checkpoint(latest(tmp_path / "whole")).model
    initial = msdk.build(recipe).network.state_dict()
    lasts = [name for name, value in trained.items() if name.startswith("decoders.") and value.shape[:1] == (2,)]
    assert lasts
    for name in lasts:
        assert not torch.equal(trained[name][1], initial[name][1]), name
    msdk.train(tiny(*HYBRID, "training.iterations=3"), tmp_path / "halves")
    msdk.train(recipe, tmp_path / "halves", resume=True)
    again = load_checkpoint(latest(tmp_path / "halves")).model
    assert all(torch.equal(trained[name], again[name]) for name in trained)


def test_between_steps_it_is_between_them():
    """Training draws times between two steps as well: there the loss lies near that of both."""
    recipe = tiny(*HYBRID)
    denoiser = msdk.build(recipe).double()
    objective = HybridVLB(vlb_weight=1.0).build(denoiser)
    x_0 = (torch.rand(1, 1, 8, 8, dtype=torch.float64) * 255).round() / 127.5 - 1
    noise = torch.randn(1, 1, 8, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)

    def loss(step):
        times = torch.tensor([(step + 1) / 1000], dtype=torch.float64)
        draw = Draw(denoiser.partition.at(times, denoiser.schedule), times, torch.zeros(1, dtype=torch.float64), noise)
        with torch.no_grad():
            return float(objective.loss(Batch(x_0), draw, denoiser))

    low, between, high = sorted([loss(600), loss(601)])[0], loss(600.5), sorted([loss(600), loss(601)])[1]
    assert low * 0.999 <= between <= high * 1.001
    assert all(np.isfinite(loss(step)) for step in (0, 0.3, 0.999, 1, 1.5, 999))


def test_its_step_is_simulated():
    """The memory of its step is found without running it."""
    assert memory(tiny(*HYBRID)).peak > memory(tiny('schedule={name="vp-discrete"}')).peak


def test_untrained_variances_are_refused(tmp_path):
    """A named objective that leaves a variance untrained is a mistake of the recipe; unnamed, training asks for one."""
    with pytest.raises(RecipeError, match=r"training\.objective +decoders 0, 1, 2 predict a variance .*hybrid-vlb"):
        tiny(VARIANCE, 'training.objective={name="denoising"}')
    sampled = tiny(VARIANCE)  # a published network that only samples loads
    with pytest.raises(PartError, match=r"decoders 0, 1, 2 predict a variance .* set training\.objective"):
        msdk.train(sampled, tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ((HYBRID[0], HYBRID[2]), "only a discrete schedule has: use vp-discrete"),
        ((*HYBRID, 'schedule={name="vp-discrete", clock="held"}'), "only a discrete schedule has"),
        ((*HYBRID, "decoders.1.variance=false"), "which decoders 1 do not predict: set variance to true"),
        ((*HYBRID, "encoder.unit_range=true"), r"pixels in \[-1, 1\]"),
    ],
)
def test_what_does_not_suit_it_is_told(settings, words):
    """Schedules without steps, decoders without a variance, pixels in another range."""
    with pytest.raises(RecipeError, match=words):
        tiny(*settings)
