"""Promises of the denoising loss: DDPM's, with the draw alone to decide it."""

import attrs
import torch

import msdk
from msdk.batch import Batch
from msdk.denoiser.building import build
from msdk.objectives.base import Draw
from msdk.objectives.denoising import Denoising
from msdk.training.drawing import Feed
from recipes import tiny


def drawn(recipe, denoiser, x_0, times, seed=3):
    """A draw at given times."""
    noise = torch.randn(x_0.shape, generator=torch.Generator().manual_seed(seed), dtype=x_0.dtype)
    stages = denoiser.partition.at(times, denoiser.schedule)
    return Draw(stages, times, recipe.weighting.weight(denoiser.schedule, times), noise)


def test_the_loss_is_ddpms():
    """With noise prediction and uniform weights the loss is the plain squared error of the noise (paper, Eq. 2)."""
    recipe = tiny('parameterization={name="eps"}', 'weighting={name="uniform"}')
    denoiser = build(recipe)
    x_0, times = torch.rand(6, 1, 8, 8) * 2 - 1, torch.tensor([1e-5, 0.1, 0.3, 0.5, 0.9, 1.0], dtype=torch.float64)
    draw = drawn(recipe, denoiser, x_0, times)
    found = Denoising().build(denoiser).loss(Batch(x_0), draw, denoiser)
    alpha, sigma = (
        part(times).float().view(-1, 1, 1, 1) for part in (denoiser.schedule.alpha, denoiser.schedule.sigma)
    )
    output, _ = denoiser.output(alpha * x_0 + sigma * draw.noise, times)
    torch.testing.assert_close(found, (output - draw.noise).square().mean(dim=(1, 2, 3)), rtol=1e-5, atol=1e-6)


def test_it_is_the_weighted_error_of_the_estimate():
    """Whatever the parameterisation: w(t) |x_0 estimate - x_0|^2, mean over the pixels."""
    for parameterization in ("edm", "vp", "score"):
        recipe = tiny(f'parameterization={{name="{parameterization}"}}', 'weighting={name="edm"}')
        denoiser = build(recipe).double()
        x_0 = torch.rand(4, 1, 8, 8, dtype=torch.float64) * 2 - 1
        times = torch.tensor([0.1, 0.3, 0.5, 0.9], dtype=torch.float64)
        draw = drawn(recipe, denoiser, x_0, times)
        found = Denoising().build(denoiser).loss(Batch(x_0), draw, denoiser)
        alpha, sigma = (part(times).view(-1, 1, 1, 1) for part in (denoiser.schedule.alpha, denoiser.schedule.sigma))
        estimate = denoiser(alpha * x_0 + sigma * draw.noise, times)
        expected = draw.weights * (estimate - x_0).square().mean(dim=(1, 2, 3))
        torch.testing.assert_close(found, expected, rtol=1e-8, atol=1e-10)


def test_perturbed_inputs_and_offset_noise():
    """The network sees more noise than it is to find, and what it is to find has a mean of its own in each channel."""
    recipe = tiny('parameterization="eps"', 'weighting="uniform"')
    denoiser = build(recipe).double()
    x_0 = torch.rand(4, 1, 8, 8, dtype=torch.float64) * 2 - 1
    times = torch.tensor([0.1, 0.3, 0.5, 0.9], dtype=torch.float64)
    for spec in (
        Denoising(input_perturbation=0.1),
        Denoising(noise_offset=0.2),
        Denoising(input_perturbation=0.1, noise_offset=0.2),
    ):
        extra = torch.randn(4, spec.extra, 1, 8, 8, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
        draw = attrs.evolve(drawn(recipe, denoiser, x_0, times), extra=extra)
        alpha, sigma = (part(times).view(-1, 1, 1, 1) for part in (denoiser.schedule.alpha, denoiser.schedule.sigma))
        noise = draw.noise + spec.noise_offset * extra[:, -1, :, :1, :1]
        seen = alpha * x_0 + sigma * (noise + spec.input_perturbation * extra[:, 0])
        expected = (denoiser.output(seen, times)[0] - noise).square().mean(dim=(1, 2, 3))
        found = spec.build(denoiser).loss(Batch(x_0), draw, denoiser)
        torch.testing.assert_close(found, expected, rtol=1e-8, atol=1e-10)
    assert Denoising().extra == 0


def test_options_are_trained_with(tmp_path):
    """Draws have what they ask for, and without options they are those of before."""
    plain, more = tiny(), tiny('training.objective={name="denoising", input_perturbation=0.1, noise_offset=0.1}')
    feeds = [Feed(recipe, build(recipe), recipe.data.open())(3).draw for recipe in (plain, more)]
    assert feeds[0].extra is None
    assert feeds[1].extra.shape == (8, 2, 1, 8, 8)
    assert torch.equal(feeds[0].noise, feeds[1].noise)
    msdk.train(
        tiny(
            'training.objective={name="denoising", input_perturbation=0.1}',
            "training.iterations=2",
            "training.accumulation=2",
        ),
        tmp_path / "run",
        device="cpu",
    )
