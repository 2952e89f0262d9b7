"""Promises of the autoencoders: latents of the promised shape, the nearest code, the laws of loss and gradient."""

import attrs
import pytest
import torch

import msdk
from msdk.autoencoders import vq_net
from msdk.autoencoders.kl import KL
from msdk.autoencoders.vq import VQ
from msdk.errors import PartError

SMALL = {"channels": 8, "channel_mult": (1, 2), "blocks": 1, "groups": 4, "z_channels": 3, "latent_channels": 2}
SPECS = [VQ(codes=16, **SMALL), KL(**SMALL)]


def built(spec, shape=(3, 8, 8), dtype=torch.float64):
    torch.manual_seed(0)
    net = spec.build(shape).to(dtype).eval()
    if isinstance(spec, VQ):
        torch.nn.init.normal_(net.quantizer.codes)
    return net


@pytest.mark.parametrize("name", msdk.autoencoders.names())
def test_full_size_latents(name):
    """Every built-in autoencoder knows the shape of its latents beforehand: a quarter of the side, 3 channels."""
    spec = msdk.autoencoders.get(name)()
    assert spec.latent_shape((3, 256, 256)) == (3, 64, 64)
    with torch.device("meta"):
        assert spec.build((3, 256, 256)).encode(torch.empty(2, 3, 256, 256)).shape == (2, 3, 64, 64)


@pytest.mark.parametrize("spec", SPECS, ids=["vq", "kl"])
@pytest.mark.parametrize(
    ("shape", "changes"),
    [((3, 8, 8), {}), ((1, 8, 24), {}), ((3, 4, 16), {"channel_mult": (1, 2, 3), "attention": (2, 4), "blocks": 2})],
)
def test_latents_and_images_have_the_promised_shapes(spec, shape, changes):
    """Square or not, grey or colour, with attention or without: encode gives `latent_shape`, decode the image's."""
    spec = attrs.evolve(spec, **changes)
    net, x = built(spec, shape), torch.rand(2, *shape, dtype=torch.float64) * 2 - 1
    h = net.encode(x)
    assert h.shape == (2, *spec.latent_shape(shape))
    assert net.decode(h).shape == x.shape
    assert torch.equal(net.encode(x), h)
    torch.testing.assert_close(net.encode(x[1:]), h[1:])


@pytest.mark.parametrize(
    ("changes", "shape", "words"),
    [
        ({}, (3, 9, 8), "images of 9x8 cannot be halved 1 times for 2 levels: use sides that 2 divides"),
        ({"channel_mult": (1, 2, 3)}, (3, 8, 6), "8x6 cannot be halved 2 times"),
        ({"attention": (4,)}, (3, 8, 8), "attention at 1/4 of the image's side, but the levels are 1/1, 1/2"),
        ({"groups": 16, "channel_mult": (1, 3)}, (3, 8, 8), "level 1: 24 channels cannot be split into 16 groups"),
    ],
)
def test_what_does_not_fit_is_told(changes, shape, words):
    """`latent_shape` and `build` refuse what could not run, with the reason."""
    spec = attrs.evolve(SPECS[0], **changes)
    for method in (spec.latent_shape, spec.build):
        with pytest.raises(PartError, match=words):
            method(shape)


@pytest.mark.parametrize("at_once", [2**25, 100, 1])
def test_the_nearest_code_is_taken(monkeypatch, at_once):
    """Every pixel gets the code at the smallest squared distance, however many are compared at once."""
    monkeypatch.setattr(vq_net, "DISTANCES", at_once)
    net = built(SPECS[0])
    h = torch.randn(3, 2, 4, 5, dtype=torch.float64)
    z_q, _, indices = net.quantize(h)
    distances = (h[:, None] - net.quantizer.codes[None, :, :, None, None]).square().sum(dim=2)
    assert torch.equal(indices, distances.argmin(dim=1))
    torch.testing.assert_close(z_q, net.quantizer.codes[indices].permute(0, 3, 1, 2))


def test_the_loss_of_quantising():
    """Value 1.25 mean((z_q - h)^2), with gradients of weight 1 on the latents and 0.25 on the codes."""
    net = built(SPECS[0])
    h = torch.randn(2, 2, 4, 4, dtype=torch.float64, requires_grad=True)
    _, loss, indices = net.quantize(h)
    difference = (net.quantizer.codes[indices].permute(0, 3, 1, 2) - h).detach()
    assert loss.item() == pytest.approx(1.25 * difference.square().mean().item())
    loss.backward()
    torch.testing.assert_close(h.grad, -2 * difference / h.numel())
    of_codes = torch.zeros_like(net.quantizer.codes)
    of_codes.index_add_(0, indices.flatten(), 0.25 * 2 * difference.permute(0, 2, 3, 1).flatten(0, 2) / h.numel())
    torch.testing.assert_close(net.quantizer.codes.grad, of_codes)


def test_quantising_passes_gradients_through():
    """The gradient at the codes reaches the latents unchanged."""
    net = built(SPECS[0])
    h = torch.randn(1, 2, 2, 3, dtype=torch.float64, requires_grad=True)
    upstream = torch.randn_like(h)
    net.quantize(h)[0].backward(upstream)
    assert torch.equal(h.grad, upstream)


def test_decoding_snaps_to_codes():
    """A VQ decodes the codes nearest to its latents unless told not to; on a code both are the same."""
    net = built(SPECS[0])
    h = torch.randn(1, 2, 4, 4, dtype=torch.float64)
    z_q = net.quantize(h)[0]
    torch.testing.assert_close(net.decode(h), net.decode(z_q, quantize=False))
    assert (net.decode(h) - net.decode(h, quantize=False)).abs().max() > 1e-3


def test_codes_do_not_depend_on_autocast():
    """Under bf16 autocast the distances stay in float32, so the same codes are taken."""
    net = built(VQ(codes=512, **SMALL), dtype=torch.float32)
    h = torch.randn(4, 2, 16, 16)
    plain = net.quantize(h)[2]
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(net.quantize(h)[2], plain)


def test_initial_weights():
    """Codes start inside 1/n, and no convolution at zero, so that untrained latents already tell images apart."""
    torch.manual_seed(0)
    net = VQ(codes=16, **SMALL).build((3, 8, 8))
    assert net.quantizer.codes.abs().max() <= 1 / 16
    assert all(part.weight.abs().max() > 0 for part in net.modules() if isinstance(part, torch.nn.Conv2d))


def test_gaussian_latents():
    """Encoding gives the mean, a draw adds the deviation times the given noise, log-variances stay in [-30, 20]."""
    net = built(SPECS[1])
    with torch.no_grad():
        net.to_latent.weight.mul_(1000)
    x = torch.rand(2, 3, 8, 8, dtype=torch.float64)
    mean, log_variance = net.posterior(x)
    assert torch.equal(net.encode(x), mean)
    assert log_variance.min() == -30
    assert log_variance.max() == 20
    noise = torch.randn_like(mean)
    torch.testing.assert_close(net.sample(mean, log_variance, noise), mean + log_variance.exp().sqrt() * noise)
    assert torch.equal(net.sample(mean, log_variance, torch.zeros_like(mean)), mean)


def test_divergence_of_gaussian_latents():
    """It is torch's own divergence of the two normal laws, per image; 0 for N(0, I)."""
    net = built(SPECS[1])
    mean, log_variance = torch.randn(3, 2, 4, 4, dtype=torch.float64), torch.randn(3, 2, 4, 4, dtype=torch.float64)
    normal = torch.distributions.Normal
    expected = torch.distributions.kl_divergence(normal(mean, (log_variance / 2).exp()), normal(0.0, 1.0))
    torch.testing.assert_close(net.kl(mean, log_variance), expected.sum(dim=(1, 2, 3)))
    assert torch.equal(net.kl(mean * 0, log_variance * 0), torch.zeros(3, dtype=torch.float64))


def test_gradients_reach_every_weight():
    """Reconstruction and divergence train all of a KL; reconstruction and code loss all of a VQ but idle codes."""
    for spec in SPECS:
        net, x = built(spec), torch.rand(2, 3, 8, 8, dtype=torch.float64) * 2 - 1
        if isinstance(spec, KL):
            mean, log_variance = net.posterior(x)
            h, extra = net.sample(mean, log_variance, torch.randn_like(mean)), net.kl(mean, log_variance).mean()
        else:
            h, extra, _ = net.quantize(net.encode(x))
        decoded = net.decode(h) if isinstance(spec, KL) else net.decode(h, quantize=False)
        ((decoded - x).square().mean() + extra).backward()
        assert all(parameter.grad is not None and parameter.grad.abs().max() > 0 for parameter in net.parameters())
