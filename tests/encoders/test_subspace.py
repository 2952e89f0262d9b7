"""A stage at a lower resolution: what pooling keeps, and the linear estimate of what it loses, in closed form."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import msdk
from msdk.decoders.score_sde import DDPMpp
from msdk.decoders.subspace import Subspace as SubspaceDecoder
from msdk.denoiser.building import Parts, join
from msdk.encoders.subspace import Subspace
from msdk.errors import PartError
from msdk.layers.resample import lift, pool
from msdk.parameterizations.edm import EDM
from msdk.partition import Partition

SHAPE = (2, 16, 16)
SIZE = {"channels": 8, "groups": 4, "dropout": 0.0}


def denoiser(pooled):
    """One stage in float64 whose weights all matter."""
    encoder = Subspace(**SIZE, channel_mult=(1, 1), blocks=1, attention=(4,), pooled=pooled)
    decoders = (SubspaceDecoder(**SIZE),)
    parts = Parts(
        encoders=(encoder,),
        decoders=decoders,
        schedule=msdk.schedules.get("edm")(),
        parameterization=EDM(sigma_data=0.5),
        shape=SHAPE,
    )
    found = join(parts, Partition()).double().eval()
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in found.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return found


def lost(x, times):
    """What each pooling of an image loses, least first, at its full resolution."""
    found = []
    for each in range(times):
        small = pool(x)
        found.append(lift(x - lift(small), each))
        x = small
    return found


@given(times=st.integers(1, 3), seed=st.integers(0, 9))
@settings(deadline=None, max_examples=15)
def test_pooling_is_an_orthogonal_projection(times, seed):
    """What it keeps and what it loses add up to the image, and so do their squares; `lift` is its transpose."""
    generator = torch.Generator().manual_seed(seed)
    x, y = torch.randn(2, 1, 2, 16, 16, generator=generator, dtype=torch.float64)
    small = x
    for _ in range(times):
        small = pool(small)
    parts = [*lost(x, times), lift(small, times)]
    torch.testing.assert_close(sum(parts), x)
    torch.testing.assert_close(sum(part.square().sum() for part in parts), x.square().sum())
    torch.testing.assert_close((pool(x) * pool(y)).sum(), (x * lift(pool(y))).sum())
    torch.testing.assert_close(pool(lift(x)), x)


@pytest.mark.parametrize("pooled", [1, 2])
def test_of_gaussian_data_the_lost_part_is_exact(pooled):
    """With variances s^2 of each lost part some gains make its posterior mean, s^2 / (s^2 + ratio^2) x_t, to 1e-10."""
    net, sigma, deviations = denoiser(pooled), 3.0, [0.1, 0.4][:pooled]
    c = net.parameterization.coefficients(net.schedule, sigma)
    gain = net.network.decoders[0].gain
    with torch.no_grad():
        gain.weight.zero_()
        for index, s in enumerate(deviations):
            gain.bias[index] = (s**2 / (s**2 + sigma**2) - c.c_skip) / (c.c_out * c.c_in)
        x = sigma * torch.randn(3, *SHAPE, dtype=torch.float64)
        found = net(x, sigma)
    for s, ours, theirs in zip(deviations, lost(found, pooled), lost(x, pooled), strict=True):
        torch.testing.assert_close(ours, s**2 / (s**2 + sigma**2) * theirs, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("pooled", [1, 2])
def test_training_finds_that_estimate(pooled):
    """The gains at which the mean squared error over Gaussian data is least are those in closed form, to 2 %."""
    net, sigma, s = denoiser(pooled), 1.0, 0.7
    c = net.parameterization.coefficients(net.schedule, sigma)
    generator = torch.Generator().manual_seed(0)
    clean = s * torch.randn(600, *SHAPE, generator=generator, dtype=torch.float64)
    x = clean + sigma * torch.randn(600, *SHAPE, generator=generator, dtype=torch.float64)
    gain = net.network.decoders[0].gain
    (gradient,) = torch.autograd.grad((net(x, sigma) - clean).square().mean(), [gain.bias])
    # The loss is a parabola of each gain, whose curvature follows from the lost part alone.
    curvature = torch.stack([2 * (c.c_out * c.c_in * part).square().mean() for part in lost(x, pooled)])
    with torch.no_grad():
        embedding = net.network.encoder(0)(c.c_in * x[:1], torch.tensor([c.c_noise])).embedding
        best = gain(embedding)[0] - gradient / curvature
    wanted = (s**2 / (s**2 + sigma**2) - c.c_skip) / (c.c_out * c.c_in)
    torch.testing.assert_close(best, torch.full_like(best, wanted), rtol=0, atol=0.03 * abs(wanted))


def test_the_rest_is_seen_at_the_lower_resolution():
    """What pooling loses changes nothing in what it keeps, and the network computes on a quarter of the pixels."""
    net = denoiser(1)
    x = torch.randn(1, *SHAPE, dtype=torch.float64)
    with torch.no_grad():
        one, other = net(x, 2.0), net(lift(pool(x)), 2.0)
    torch.testing.assert_close(pool(one), pool(other))
    info = Subspace(channel_mult=(1, 2), attention=()).info((3, 32, 32))
    assert [level.reduction for level in info.levels] == [1, 2, 4]
    assert info.levels[0].skips == (3,)


def test_what_does_not_fit_is_told():
    with pytest.raises(PartError, match="cannot be halved 3 times"):
        Subspace(pooled=3).info((3, 12, 12))
    with pytest.raises(PartError, match="unit_range"):
        Subspace(unit_range=True).info((3, 32, 32))
    info = Subspace(channel_mult=(1, 2)).info((3, 32, 32))
    with pytest.raises(PartError, match="predicts no variance"):
        SubspaceDecoder(variance=True).check(info)
    with pytest.raises(PartError, match="no whole multiple"):
        DDPMpp().check(info)
    with pytest.raises(PartError, match="use the encoder subspace"):
        SubspaceDecoder().check(msdk.encoders.get("ddpmpp")().info((3, 32, 32)))
