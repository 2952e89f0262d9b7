"""Loss gradients of a network in training: their affinity, their projection, and runs as `msdk train` leaves them."""

import math

import pytest
import torch

from msdk.clustering.gradients import loss_gradients
from msdk.clusterings import gradient as module
from msdk.clusterings.base import Subject
from msdk.clusterings.gradient import Gradient, projection
from msdk.clusterings.segmentation import Lengths, by_middle
from msdk.errors import PartError
from msdk.schedules.vp import VPLinear
from msdk.training import train
from recipes import tiny

UNIFIED = (
    'decoders=[{name="ddpmpp", channels=8}]',
    'sharing="unified"',
    "stages.edges_ratio=[]",
    "training.iterations=6",
    "training.checkpoint_every=2",
)


class Turning:
    """A network whose gradient turns with time."""

    def __init__(self, speed):
        self.speed = speed

    def gradient(self, t):
        angle = self.speed * t
        return torch.tensor([math.cos(angle), math.sin(angle)]).repeat(50)


def networks(run, *, checkpoints, iterations, batch, seed):
    return iter([Turning(1.0), Turning(3.0)])


def test_affinity_is_the_mean_cosine_over_checkpoints():
    """Of gradients that turn, the affinity of t and u is the mean of cos(speed (t - u)); the cut is the best for it."""
    found = Gradient(points=40, checkpoints=2).find(Subject(schedule=VPLinear(), models=networks))
    times = torch.tensor(found.curves["t"], dtype=torch.float64)
    apart = times[:, None] - times
    affinity = torch.tensor(found.matrices["affinity"], dtype=torch.float64)
    torch.testing.assert_close(affinity, (apart.cos() + (3 * apart).cos()) / 2, rtol=0, atol=3e-6)
    assert found.edges_t == tuple(times[by_middle(-affinity, 3, Lengths.usual(40, 3))].tolist())
    assert "2 checkpoints; gradients were whole" in found.notes[0]


@pytest.mark.parametrize("size", [256, 4096])
@pytest.mark.parametrize("cosine", [0.0, 0.7, 1.0])
def test_projection_keeps_cosines_within_the_error_it_claims(size, cosine):
    """Over many pairs of vectors the error of projected cosines has the standard deviation that is documented."""
    generator = torch.Generator().manual_seed(0)
    errors = []
    for _ in range(200):
        one, other = torch.randn(2, 3000, generator=generator)
        other = cosine * one + math.sqrt(1 - cosine**2) * other
        exact = torch.nn.functional.cosine_similarity(one, other, dim=0)
        ours = torch.nn.functional.cosine_similarity(projection(one, size), projection(other, size), dim=0)
        errors.append(float(ours - exact))
    assert torch.tensor(errors).square().mean().sqrt() < 1.2 * math.sqrt((1 + cosine**2) / size)


def test_projection_is_the_same_in_pieces(monkeypatch):
    """The pieces bound the memory; every entry keeps its place, wherever the vector was cut."""
    values = torch.randn(1000, generator=torch.Generator().manual_seed(0))
    assert torch.equal(projection(values, 64), projection(values, 64))
    torch.testing.assert_close(projection(2 * values, 64), 2 * projection(values, 64))


@pytest.mark.parametrize(("fits", "how"), [(2000, "whole"), (1999, "projected at random to 32 numbers")])
def test_large_gradients_are_projected(monkeypatch, fits, how):
    """What would not fit is projected, which the notes say: 20 gradients of 100 numbers are 2000."""
    monkeypatch.setattr(module, "FITS", fits)
    found = Gradient(points=20, projection=32).find(Subject(schedule=VPLinear(), models=networks))
    assert how in found.notes[0]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("gradient") / "run"
    train(tiny(*UNIFIED), folder)
    return folder


def gradients(recipe, run, **other):
    told = []
    settings = {"device": "cpu", "checkpoints": 2, "iterations": 4, "batch": 40, "seed": 0} | other
    models = loss_gradients(
        recipe, recipe.schedule, recipe.data.open, run, progress=lambda *counts: told.append(counts), **settings
    )
    return list(models), told


def test_checkpoints_of_a_run_are_looked_at(run):
    """The newest checkpoints of `msdk train`, oldest first; each has weights, and so gradients, of its own."""
    recipe = tiny(*UNIFIED)
    weights = []
    for model in loss_gradients(
        recipe,
        recipe.schedule,
        recipe.data.open,
        run,
        device="cpu",
        checkpoints=2,
        iterations=1,
        batch=40,
        seed=0,
        progress=lambda done, total: None,
    ):
        gradient = model.gradient(0.5)
        assert gradient.shape == (sum(each.numel() for each in model.denoiser.network.parameters()),)
        assert bool(gradient.isfinite().all())
        assert float(gradient.norm()) > 0
        torch.testing.assert_close(model.gradient(0.5), gradient)
        weights.append(gradient)
    assert len(weights) == 2
    assert not torch.allclose(*weights)


def test_micro_batches_add_up(run, monkeypatch):
    """A batch in pieces has the gradient of the whole."""
    (model,), _ = gradients(tiny(*UNIFIED), run, checkpoints=1)
    whole = model.gradient(0.4)
    monkeypatch.setattr("msdk.clustering.gradients.MICRO_BATCH", 7)
    torch.testing.assert_close(model.gradient(0.4), whole, rtol=1e-3, atol=1e-5)


def test_as_published_noise_is_new_at_each_time_and_dropout_on(run):
    """Gradients at one time differ from call to call, and do so alike for the same seed; torch's own state is kept."""
    before = torch.get_rng_state()
    kept, again, other = (
        gradients(tiny(*UNIFIED), run, checkpoints=1, as_published=True, seed=seed)[0][0] for seed in (0, 0, 1)
    )
    assert kept.denoiser.network.training
    first, second = kept.gradient(0.5), kept.gradient(0.5)
    assert not torch.allclose(first, second)
    assert torch.equal(again.gradient(0.5), first)
    assert torch.equal(again.gradient(0.5), second)
    assert not torch.allclose(other.gradient(0.5), first)
    assert torch.equal(torch.get_rng_state(), before)


def test_as_published_is_asked_for_and_said():
    """The models are told of the mode, and the notes say it."""
    told = {}

    def models(run, *, as_published, **settings):
        told["as_published"] = as_published
        return iter([Turning(1.0)])

    found = Gradient(points=20, as_published=True).find(Subject(schedule=VPLinear(), models=models))
    assert told == {"as_published": True}
    assert "each of a noise of its own and with dropout" in found.notes[0]


def test_without_a_run_one_is_trained():
    """A staged recipe is trained with its middle decoder for all times, as long as the settings say."""
    models, told = gradients(tiny(), None)
    assert len(models) == 2
    assert told[-1] == (4, 4)
    (widths,) = {tuple(decoder.channels for decoder in model.recipe.decoders) for model in models}
    assert widths == (8,)


def test_a_run_with_stages_is_refused(tmp_path):
    """Gradients of two stages of one network have no weights in common but the encoder's."""
    train(tiny("training.iterations=1"), tmp_path / "run")
    with pytest.raises(PartError, match="has 3 stages, but gradients are compared in a network for all times"):
        gradients(tiny(), tmp_path / "run")
