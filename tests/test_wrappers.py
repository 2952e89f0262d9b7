"""Promises of wrappers around the network, which any sampler takes."""

import pytest
import torch

import msdk
from msdk.sampling.noise import SeededNoise
from msdk.wrappers import clipped, dynamic_threshold, inpainted
from recipes import tiny


@pytest.fixture(scope="module")
def denoiser():
    return msdk.build(tiny()).eval()


def test_clipping_keeps_estimates_in_range():
    """Values within the range stay, others come to its edge."""
    estimate = clipped(lambda x, t: x, -1, 2)
    assert estimate(torch.tensor([-3.0, 0.5, 9.0]), 1.0).tolist() == [-1.0, 0.5, 2.0]


def test_thresholding_is_of_each_image():
    """An image within the least threshold stays; another is clipped to its quantile and divided by it."""
    x = torch.stack([torch.linspace(-0.5, 0.5, 100), torch.linspace(-4, 4, 100)]).view(2, 1, 10, 10)
    found = dynamic_threshold(lambda x, t: x, ratio=0.9, least=1.0)(x, 1.0)
    assert torch.equal(found[0], x[0])
    assert found[1].abs().max() == 1
    q = torch.quantile(x[1].abs(), 0.9)
    torch.testing.assert_close(found[1], (x[1] / q).clamp(-1, 1))


@pytest.mark.parametrize("name", ["dpmpp-2m", "heun", "ddim", "dpmpp-sde", "unipc"])
def test_what_is_known_stays(denoiser, name):
    """Inpainting ends with the known pixels where the mask is 1, whichever sampler draws the others."""
    known = torch.linspace(-1, 1, 64).view(1, 1, 8, 8)
    mask = torch.zeros(1, 1, 8, 8)
    mask[..., :4] = 1
    noise = SeededNoise([0, 1])(torch.empty(2, 1, 8, 8))
    sampler = msdk.samplers.get(name)()
    images = msdk.sample(
        denoiser,
        sampler,
        12,
        [0, 1],
        wrap=lambda network: inpainted(network, denoiser.schedule, known, mask, noise),
    )
    off = (images - known)[..., :4].abs().max()
    assert off < 0.05  # grids that end above the clean image keep that little noise
    assert (images - known)[..., 4:].abs().max() > 0.1
