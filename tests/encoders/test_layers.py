"""Layers that networks share: the laws of their initial weights, and resampling in either order."""

import math

import pytest
import torch
from torch import nn

from msdk.layers.conv import Conv2d, Linear
from msdk.layers.resample import PyramidDownsample
from msdk.layers.transformer import PatchEmbed

BOTH = pytest.mark.parametrize(
    ("layer", "plain"), [(Conv2d, lambda i, o: nn.Conv2d(i, o, 3)), (Linear, nn.Linear)], ids=["conv", "linear"]
)


def seeded(make):
    """What is made from a seed of its own."""
    torch.manual_seed(0)
    return make()


@BOTH
def test_xavier_is_uniform_over_the_mean_fan(layer, plain):
    """U(-a, a) with a = sqrt(3 scale / mean fan), of one draw; a scale of 1 unless told, and no bias."""
    for scale in (None, 1.0, 0.25):
        made = seeded(lambda scale=scale: layer(6, 10, **({} if scale is None else {"scale": scale})))
        bound = math.sqrt(3 * (scale or 1.0) / (8 * made.weight[0, 0].numel()))
        wanted = seeded(lambda made=made, bound=bound: torch.empty_like(made.weight).uniform_(-bound, bound))
        torch.testing.assert_close(made.weight.detach(), wanted)
        assert not made.bias.any()


@BOTH
def test_torchs_own_law_is_torchs(layer, plain):
    """The same seed gives the weights of torch's layer; a scale of 0 gives none, but for what is torch's altogether."""
    wanted = seeded(lambda: plain(6, 10))
    for init, scale in (("torch", 1.0), ("torch-all", 1.0), ("torch-all", 0.0)):
        made = seeded(lambda init=init, scale=scale: layer(6, 10, init=init, scale=scale))
        assert torch.equal(made.weight, wanted.weight)
        assert torch.equal(made.bias, wanted.bias)
    none = layer(6, 10, init="torch", scale=0.0)
    assert not none.weight.any()
    assert not none.bias.any()


@pytest.mark.parametrize("images", [1, 5])
def test_a_kernel_of_one_pixel_is_a_linear_map(images, monkeypatch):
    """On the CPU, of images that lie channels last: torch's numbers and gradients, in torch's layout."""
    made = seeded(lambda: Conv2d(6, 4, 1))
    x = seeded(lambda: torch.randn(images, 6, 3, 5)).contiguous(memory_format=torch.channels_last)
    x.requires_grad_()
    wanted = nn.functional.conv2d(x, made.weight, made.bias)
    inputs = (x, made.weight, made.bias)
    upstream = seeded(lambda: torch.randn_like(wanted))
    gradients = torch.autograd.grad(wanted, inputs, upstream)
    monkeypatch.setattr(nn.Conv2d, "_conv_forward", None)  # a convolution would fail now
    found = made(x)
    assert found.stride() == wanted.stride()
    torch.testing.assert_close(found, wanted)
    torch.testing.assert_close(torch.autograd.grad(found, inputs, upstream), gradients)


def test_other_kernels_and_layouts_are_convolved():
    """A bias that the owner adds later is left out, too."""
    x = seeded(lambda: torch.randn(2, 6, 4, 4))
    for made in (Conv2d(6, 4, 1), Conv2d(6, 4, 1, stride=2), Conv2d(6, 4, 1, padding=1), Conv2d(6, 4, 3)):
        nn.init.normal_(made.bias)
        for image in (x, x.contiguous(memory_format=torch.channels_last)):
            wanted = nn.functional.conv2d(image, made.weight, made.bias, made.stride, made.padding)
            torch.testing.assert_close(made(image), wanted)
            made.late_bias = True
            torch.testing.assert_close(made(image), wanted - made.bias[:, None, None])
            made.late_bias = False


def test_patches_begin_as_a_linear_map():
    """Xavier over the pixels of a patch and the channels of a token, not over a convolution's kernel."""
    made = seeded(lambda: PatchEmbed((3, 8, 8), 4, 200, init="xavier").embed.proj)
    bound, weight = math.sqrt(3 / ((3 * 4 * 4 + 200) / 2)), made.weight.detach()
    assert 0.99 * bound < float(weight.abs().max()) <= bound
    assert float(weight.std()) == pytest.approx(bound / math.sqrt(3), rel=0.03)
    assert not made.bias.any()


@pytest.mark.parametrize("taps", [(1.0, 1.0), (1.0, 2.0, 1.0), (1.0, 3.0, 3.0, 1.0)], ids=len)
def test_the_pyramid_is_one_map_in_either_order(taps):
    """Filter and convolution commute, so the image is halved once and the numbers are the same."""
    filtered, convolved = (PyramidDownsample(3, 5, taps=taps, conv_first=first) for first in (False, True))
    convolved.load_state_dict(filtered.state_dict())
    x = torch.randn(2, 3, 8, 8)
    assert filtered(x).shape == (2, 5, 4, 4)
    torch.testing.assert_close(convolved(x), filtered(x), rtol=1e-4, atol=1e-5)
