"""Equal complexity: both monitors against derivatives of the optimal denoiser, and closed forms of Gaussians."""

import pytest
import torch
from subjects import subject

from msdk.clusterings.acceleration import Acceleration, acceleration
from msdk.clusterings.dirichlet import Dirichlet, dirichlet
from msdk.clusterings.moments import Moments, moments
from msdk.clusterings.posterior import Scaled, posterior
from msdk.errors import PartError
from msdk.schedules.pfgm import PFGM
from msdk.schedules.rectified_flow import RectifiedFlow
from msdk.schedules.vp import VPLinear
from msdk.schedules.vp_cosine import VPCosine
from msdk.testing.clusterings import PointsInMemory

SCHEDULES = [RectifiedFlow(), VPLinear(), VPCosine()]


def velocity(schedule, places):
    """The velocity of the optimal denoiser of some points, as a function of one x_t and t."""

    def of(x, t):
        alpha, sigma = schedule.alpha(t), schedule.sigma(t)
        weights = (-(x / alpha - places).square().sum(1) / (2 * (sigma / alpha) ** 2)).softmax(0)
        mean = weights @ places
        d_alpha, d_sigma = schedule.slopes(t)
        return d_alpha * mean + d_sigma * (x - alpha * mean) / sigma

    return of


@pytest.mark.parametrize("schedule", SCHEDULES, ids=lambda each: type(each).__name__)
def test_monitors_are_derivatives_of_the_optimal_denoiser(schedule):
    """By automatic differentiation of the softmax over all points, at one noisy image after another, in any blocks."""
    generator = torch.Generator().manual_seed(0)
    places = torch.randn(40, 5, generator=generator, dtype=torch.float64)
    noise, probe = torch.randn(2, 12, 5, generator=generator, dtype=torch.float64)
    clean = places[:12]
    times = torch.linspace(0.25, 0.9, 12, dtype=torch.float64)
    ratios, data = schedule.ratio(times), Scaled(PointsInMemory(places, pixels=False), "-1..1")
    mean = posterior(data, clean, noise, ratios[:, None]).mean[:, 0]
    found = moments(data, clean, noise, ratios, mean, probe, changes=True)
    y, of = clean + ratios[:, None] * noise, velocity(schedule, places)
    for row, t in enumerate(times):
        x = schedule.alpha(t) * y[row]
        jacobian = torch.autograd.functional.jacobian(lambda each, t=t: of(each, t), x)
        # |J z|^2 for the probe stands for |J|^2: C z gives both terms of J z.
        turn = schedule.alpha(t) * schedule.slopes(t)[1] - schedule.sigma(t) * schedule.slopes(t)[0]
        own = schedule.slopes(t)[1] / schedule.sigma(t)
        factor = turn / schedule.sigma(t) * schedule.alpha(t) / schedule.sigma(t) ** 2
        torch.testing.assert_close(
            own * probe[row] - factor * found.probed[row], jacobian @ probe[row], rtol=1e-7, atol=1e-7
        )
        covariance = (own * torch.eye(5, dtype=torch.float64) - jacobian) / factor
        torch.testing.assert_close(found.trace[row], covariance.trace(), rtol=1e-7, atol=1e-9)
        rate = torch.autograd.functional.jvp(of, (x, t), (of(x, t), torch.ones_like(t)))[1]
        wanted = acceleration(schedule, times, y, mean, found)[row]
        torch.testing.assert_close(wanted, rate.square().sum(), rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize("schedule", SCHEDULES, ids=lambda each: type(each).__name__)
def test_gaussian_data_have_closed_forms(schedule):
    """Of N(0, s^2) the velocity is c(t) x: d c^2, and d (c' + c^2)^2 times the variance of x_t."""
    d, s = 4000, 0.5
    times = torch.linspace(0.1, 0.9, 7, dtype=torch.float64)
    generator = torch.Generator().manual_seed(0)
    alpha, sigma = schedule.alpha(times), schedule.sigma(times)
    total = alpha**2 * s**2 + sigma**2

    def c(t):
        alpha, sigma, (d_alpha, d_sigma) = schedule.alpha(t), schedule.sigma(t), schedule.slopes(t)
        return (alpha * d_alpha * s**2 + sigma * d_sigma) / (alpha**2 * s**2 + sigma**2)

    x = torch.randn(7, d, generator=generator, dtype=torch.float64)
    x = x / x.square().mean(1, keepdim=True).sqrt() * total.sqrt()[:, None]  # of exactly its expected length
    y, ratio = x / alpha[:, None], (sigma / alpha)[:, None]
    mean = (alpha * s**2 / total)[:, None] * x
    variance = (s**2 * sigma**2 / total)[:, None]
    probe = torch.randn(7, d, generator=generator, dtype=torch.float64)
    probe = probe / probe.square().mean(1, keepdim=True).sqrt()
    found = Moments(variance[:, 0] * d, variance * probe, -variance * (y - mean) / ratio**3)
    torch.testing.assert_close(dirichlet(schedule, times, found, d), d * c(times) ** 2, rtol=1e-6, atol=0)
    h = 1e-5
    slope = (c(times + h) - c(times - h)) / (2 * h)
    wanted = d * (slope + c(times) ** 2) ** 2 * total
    torch.testing.assert_close(acceleration(schedule, times, y, mean, found), wanted, rtol=1e-6, atol=1e-6 * d)


@pytest.mark.parametrize("strategy", [Dirichlet, Acceleration])
def test_stages_have_equal_shares(strategy):
    """The integral of the root of the monitor between edges is the same, whatever the bins."""
    found = strategy(stages=4, draws=200, bins=20).find(subject(schedule=RectifiedFlow()))
    t, monitor = torch.tensor(found.curves["t"]), torch.tensor(found.curves["monitor"])
    assert bool((monitor >= 0).all())
    low, edges = 0.01, [*found.edges_t, 1.0]
    root = torch.stack([part.mean().sqrt() for part in monitor.split(10)])
    ends = torch.tensor([low, *((t[1:] + t[:-1]) / 2)[9::10].tolist(), RectifiedFlow().t_max])
    below = torch.cat([torch.zeros(1), (root * ends.diff()).cumsum(0)])
    for number, edge in enumerate(edges[:-1], 1):
        left = int((ends < edge).sum()) - 1
        reached = below[left] + (below[left + 1] - below[left]) * (edge - ends[left]) / (ends[left + 1] - ends[left])
        assert float(reached / below[-1]) == pytest.approx(number / 4, abs=1e-4)
    for (first, last), edge in zip(found.intervals_t, found.edges_t, strict=True):
        assert first <= edge <= last


def test_bins_have_draws():
    """No bin is empty; as many bins as draws are well."""
    with pytest.raises(PartError, match="100 draws leave some of 101 bins empty: lower bins, or raise draws"):
        Dirichlet(draws=100, bins=101).find(subject())
    assert len(Dirichlet(draws=100, bins=100).find(subject()).edges_t) == 2


def test_flows_without_slopes_are_refused():
    """Before the data are read."""
    with pytest.raises(PartError, match="has no drift f"):
        Dirichlet().find(subject(schedule=PFGM()))
