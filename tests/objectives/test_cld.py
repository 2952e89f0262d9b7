"""Promises of training on critically damped Langevin diffusion: its noise, its estimate, samples of a trained run."""

from types import SimpleNamespace

import attrs
import numpy as np
import pytest
import torch

import msdk
from msdk.batch import Batch
from msdk.errors import PartError, RecipeError
from msdk.objectives import cld
from msdk.objectives.base import Draw
from msdk.objectives.cld_loss import noised
from msdk.samplers.base import run
from msdk.samplers.gddim import GDDIM
from msdk.schedules.cld import CLD
from recipes import tiny

OWN = (
    'schedule={name="cld", mixed=MIXED}',
    'parameterization="eps"',
    'weighting="uniform"',
    'training.noise={name="uniform", t_first=1e-3}',
    'training.objective="cld"',
    'sampler="gddim"',
    "encoder.channels=8",
)


def recipe(*more, mixed=False):
    return tiny(*(each.replace("MIXED", str(mixed).lower()) for each in OWN), *more)


def test_moments_are_those_of_the_process():
    """Variances and their factor, of floats and tensors, are the covariance that the sampler has; near the data too."""
    schedule = CLD()
    times = torch.tensor([1e-5, 1e-3, 0.0625, 0.2, 0.7, 1.0], dtype=torch.float64)
    xx, xv, vv = schedule.variances(times)
    covariance = schedule.covariance(times.numpy())
    for found, wanted in ((xx, covariance[:, 0, 0]), (xv, covariance[:, 0, 1]), (vv, covariance[:, 1, 1])):
        np.testing.assert_allclose(found.numpy(), wanted, rtol=1e-9, atol=1e-15)
    for index, t in enumerate(times.tolist()):
        assert schedule.variances(t) == pytest.approx([float(each[index]) for each in (xx, xv, vv)], rel=1e-12)
        root, across, own = schedule.factor(t)
        low = np.array([[root, 0], [across, own]])
        np.testing.assert_allclose(low @ low.T, covariance[index], rtol=1e-9, atol=1e-15)
        assert schedule.means(t) == pytest.approx(schedule.transition(0.0, t)[:, 0].tolist(), rel=1e-12)
        assert root == pytest.approx(schedule.sigma(t), rel=1e-9)


@pytest.mark.parametrize("mixed", [False, True])
def test_a_network_that_says_the_noise_gives_back_the_image(mixed):
    """The loss of one is 0, and its estimate is x_0."""
    built = msdk.build(recipe(mixed=mixed)).double()
    generator = torch.Generator().manual_seed(0)
    x_0, of_x, of_v = torch.randn(3, 4, 1, 8, 8, generator=generator, dtype=torch.float64)
    times = torch.tensor([0.01, 0.1, 0.5, 0.9], dtype=torch.float64)
    x, v = noised(x_0, of_x, of_v, times, built.schedule)
    wanted = of_v - built.schedule.seen.rest(times).view(-1, 1, 1, 1) * v
    loss = built.recipe.training.loss.build(built)
    stages = built.partition.at(times, built.schedule)
    weights = built.recipe.weighting.weight(built.schedule, times)
    draw = Draw(stages, times, weights, of_x, of_v[:, None])
    plain = loss.loss(Batch(x_0), draw, built)
    assert bool((plain > 0).all())
    built.network.route = lambda seen, *rest: wanted
    torch.testing.assert_close(loss.loss(Batch(x_0), draw, built), torch.zeros(4, dtype=torch.float64))
    estimate = built(torch.cat([x, v], dim=1), times)
    torch.testing.assert_close(estimate, x_0, rtol=1e-7, atol=1e-7)
    built.network.route = lambda seen, *rest: wanted + 0.1
    torch.testing.assert_close(loss.loss(Batch(x_0), draw, built), torch.full((4,), 0.01, dtype=torch.float64))


def test_recipes_train_count_and_sample_it(tmp_path):
    """Three steps in stages, images by gDDIM, a budget whose first layer takes both; what does not suit is told."""
    msdk.train(recipe("training.iterations=3"), tmp_path / "run", device="cpu")
    denoiser = msdk.load_run(tmp_path / "run")
    assert bool(msdk.sample(denoiser).isfinite().all())
    plain = tiny("encoder.channels=8", 'parameterization="eps"')
    more = msdk.budget(recipe()).params - msdk.budget(plain).params
    assert more == 8 * 9  # a second channel into a 3x3 convolution to 8
    assert denoiser.fed == (2, 8, 8)
    with pytest.raises(PartError, match="which has two parts"):
        denoiser.score(torch.zeros(1, 2, 8, 8), 0.5)
    with pytest.raises(RecipeError, match="fed, image and velocity: use gddim"):
        recipe('sampler="ddim"')
    with pytest.raises(RecipeError, match="which only the schedule cld has"):
        tiny('training.objective="cld"')
    with pytest.raises(RecipeError, match='set parameterization to "eps"'):
        recipe('parameterization={name="edm"}')
    other = attrs.evolve(recipe(), training=attrs.evolve(recipe().training, objective=None))
    with pytest.raises(PartError, match=r'set training\.objective to "cld"'):
        msdk.train(other, tmp_path / "other", device="cpu")


def test_the_rate_changes_time_alone():
    """What happens under one beta happens under another at the time when as much of it has passed; gDDIM runs both."""
    slow, fast = CLD(), CLD(beta_min=0.5, beta_max=7.5)
    for t in (0.01, 0.3, 0.9):
        same = fast.elapsed(t) / 4
        assert fast.covariance(t) == pytest.approx(slow.covariance(same), rel=1e-9)
        assert fast.transition(t / 2, t) == pytest.approx(slow.transition(fast.elapsed(t / 2) / 4, same), rel=1e-9)
    x_0 = torch.tensor([[0.5, -0.3]], dtype=torch.float64)
    steps = [1.0, 0.7, 0.4, 0.2, 0.1, 0.03, 0.01, 0.001, 0.0]
    found = run(GDDIM(), lambda u, t: x_0, fast, steps, torch.ones_like(x_0), lambda x, t, s: torch.zeros_like(x))
    torch.testing.assert_close(found, x_0, rtol=0, atol=0.01)


@pytest.mark.parametrize("reweighting", ["flat", "rate", "likelihood"])
def test_both_kinds_of_matching_have_the_same_optimum(reweighting):
    """Of Gaussian data in one dimension, the output that is linear in (x, v) is nearly the same under both losses."""
    schedule, t, many = CLD(velocity=0.04), 0.3, 200_000
    x_0, of_x, of_v, start = torch.randn(4, many, 1, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    times, found = torch.full((many,), t, dtype=torch.float64), {}
    for matching in ("hsm", "dsm"):
        seen = []
        fake = SimpleNamespace(schedule=schedule, output=lambda u, *_, seen=seen: (seen.append(u) or u[:, :1], None))
        draws = torch.stack([of_v, start] if matching == "dsm" else [of_v], dim=1)
        draw = Draw(times.long(), times, schedule.ratio(times) ** -2, of_x, draws)
        spec = cld.CLD(matching=matching, reweighting=reweighting)
        spec.build(None).loss(Batch(x_0), draw, fake)
        u, left = seen[0], []
        for a, b in ((0.0, 0.0), (1.0, 0.0), (0.0, 1.0), (1.0, 1.0), (-1.0, 0.0), (0.0, -1.0)):
            fake.output = lambda u, *_, a=a, b=b: (a * u[:, :1] + b * u[:, 1:], None)
            left.append(float(spec.build(None).loss(Batch(x_0), draw, fake).mean()))
        assert u.shape == (many, 2)
        zero, a, b, both, less_a, less_b = left
        curve = np.array([[a + less_a - 2 * zero, both - a - b + zero], [both - a - b + zero, b + less_b - 2 * zero]])
        found[matching] = np.linalg.solve(curve, [(less_a - a) / 2, (less_b - b) / 2])
    assert found["dsm"] == pytest.approx(found["hsm"], abs=0.02)
