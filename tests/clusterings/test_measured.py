"""Monitors of a denoiser that is a black box: those of Gaussians, and those in closed form of the same denoiser."""

from pathlib import Path

import attrs
import pytest
import torch
from subjects import subject

from msdk.clusterings.acceleration import Acceleration, acceleration
from msdk.clusterings.dirichlet import Dirichlet, dirichlet
from msdk.clusterings.measured import STEP, measured, spherical
from msdk.distributed import Group, Rank
from msdk.errors import PartError
from msdk.schedules.rectified_flow import RectifiedFlow
from msdk.schedules.vp import VPLinear
from msdk.testing.clusterings import LAWS, GaussianEstimate, few_images, some

RUN = Path("run")


def closed(schedule, times, s, d):
    """Both monitors of N(0, s^2 I): the velocity is c(t) x."""

    def c(t):
        alpha, sigma, (d_alpha, d_sigma) = schedule.alpha(t), schedule.sigma(t), schedule.slopes(t)
        return (alpha * d_alpha * s**2 + sigma * d_sigma) / (alpha**2 * s**2 + sigma**2)

    total = schedule.alpha(times) ** 2 * s**2 + schedule.sigma(times) ** 2
    bend = (c(times + 1e-5) - c(times - 1e-5)) / 2e-5
    return d * c(times) ** 2, d * (bend + c(times) ** 2) ** 2 * total


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("schedule", [RectifiedFlow(), VPLinear()], ids=["flow", "vp"])
def test_gaussian_data_have_closed_forms(schedule, dtype):
    """Probes of a multiple of the identity have no spread, so that only the step and the rounding are left: 1e-4."""
    d, s = 500, 0.5
    times = torch.linspace(0.1, 0.9, 9, dtype=torch.float64)
    y, probe = torch.randn(2, 9, d, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    ratios = schedule.ratio(times)
    total = s**2 + ratios.square()
    y = y / y.square().mean(1, keepdim=True).sqrt() * total.sqrt()[:, None]  # of exactly its expected length
    mean, found = measured(GaussianEstimate(s, dtype=dtype), y, ratios, spherical(probe), range(9), changes=True)
    wanted = closed(schedule, times, s, d)
    torch.testing.assert_close(dirichlet(schedule, times, found, d), wanted[0], rtol=1e-4, atol=1e-6 * d)
    torch.testing.assert_close(acceleration(schedule, times, y, mean, found), wanted[1], rtol=1e-4, atol=1e-4 * d)


def test_an_edge_between_two_networks_is_no_change():
    """A jump within the step is left out: the change is that of the stage that the point lies in."""

    class Jumping(GaussianEstimate):
        def __call__(self, y, ratios, images):
            return super().__call__(y, ratios, images) + (ratios > self.edges[0])[:, None]

    ratios = torch.tensor([1 - STEP / 2, 1 + STEP / 2, 2.0], dtype=torch.float64)
    y = torch.randn(3, 40, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    _, smooth = measured(GaussianEstimate(), y, ratios, y, range(3), changes=True)
    _, found = measured(Jumping(edges=(1.0,)), y, ratios, y, range(3), changes=True)
    # The estimate beyond is 1 higher, so the path leans.
    inside = -GaussianEstimate()(torch.ones(3, 40, dtype=torch.float64), ratios, range(3))
    expected = smooth.change + inside / ratios[:, None] * torch.tensor([0.0, 1.0, 1.0])[:, None]
    torch.testing.assert_close(found.change, expected, rtol=1e-2, atol=1e-3)


def optimal(places):
    """The optimal denoiser of points, as a black box."""

    def estimate(y, ratios, images):
        distance = (y[:, None] - places).square().sum(2)
        return (-distance / (2 * ratios.square()[:, None])).softmax(1) @ places

    estimate.edges = ()
    return estimate


@pytest.mark.parametrize("strategy", [Dirichlet, Acceleration])
@pytest.mark.parametrize("schedule", [RectifiedFlow(), VPLinear()], ids=["flow", "vp"])
def test_both_ways_agree(strategy, schedule):
    """On the same draws: acceleration to the step's error; the energy, and edges, within the error of the probes."""
    values = few_images(40, size=48)
    places = values.double() / 127.5 - 1
    given = subject(values, schedule=schedule, denoiser=lambda run: optimal(places))
    own, run = (strategy(draws=1000, t_first=0.05, run=run).find(given) for run in (None, RUN))
    assert own.curves["t"] == run.curves["t"]
    ours, theirs = (torch.tensor(found.curves["monitor"], dtype=torch.float64) for found in (own, run))
    if strategy is Acceleration:
        torch.testing.assert_close(theirs, ours, rtol=1e-2, atol=1e-3 * float(ours.mean()))
        assert run.edges_t == pytest.approx(own.edges_t, abs=1e-4)
    else:
        difference = theirs - ours
        assert abs(float(difference.mean())) < 4 * float(difference.std()) / len(difference) ** 0.5
        assert not torch.equal(theirs, ours)
        for edge, (low, high) in zip(run.edges_t, own.intervals_t, strict=True):
            assert low - 0.02 <= edge <= high + 0.02


@pytest.mark.parametrize("strategy", [Dirichlet, Acceleration])
def test_edges_of_a_gaussian_run_are_those_of_its_integral(strategy):
    """At most 0.01 away: 2,000 draws of 192 numbers have that Monte-Carlo error."""
    schedule, s = RectifiedFlow(), 0.5
    values = 127.5 + 127.5 * s * torch.randn(2000, 192, generator=torch.Generator().manual_seed(0))
    given = subject(values, schedule=schedule, denoiser=lambda run: GaussianEstimate(s))
    found = strategy(draws=2000, bins=100, exponent=1.0, run=RUN).find(given)
    times = torch.linspace(0.01, 1 - 1e-4, 20_001, dtype=torch.float64)[:-1]
    below = closed(schedule, times, s, 192)[strategy is Acceleration].cumsum(0)
    expected = [float(times[(below >= below[-1] * share).nonzero()[0]]) for share in (1 / 3, 2 / 3)]
    assert found.edges_t == pytest.approx(expected, abs=0.01)


def test_the_band_is_around_the_mean():
    """Every draw's bin has a mean between the ends of its interval, which the draws' own spread sets."""
    curves = Dirichlet(draws=200, bins=10).find(subject(schedule=RectifiedFlow())).curves
    mean, low, high = (torch.tensor(curves[f"monitor_{name}"]) for name in ("mean", "low", "high"))
    assert bool(((low <= mean) & (mean <= high)).all())
    for rows in torch.arange(200).split(20):
        values = torch.tensor(curves["monitor"])[rows]
        assert float(mean[rows[0]]) == pytest.approx(float(values.mean()))
        spread = float(high[rows[0]] - low[rows[0]]) / (2 * 1.96)
        assert spread == pytest.approx(float(values.std()) / 20**0.5, rel=0.2)


@pytest.mark.parametrize("law", LAWS, ids=lambda law: law.__name__)
@pytest.mark.parametrize("strategy", [Dirichlet, Acceleration])
def test_strategies_of_a_run_keep_the_laws(strategy, law):
    """With a run they are other parts than without."""
    law(strategy(run=RUN, draws=100, bins=20))


class Half(Group):
    """One of two processes, whose sum is its own."""

    def total(self, values):
        return values


def test_processes_share_the_draws():
    """Two halves add up to the whole, to the last bit, and neither has what the other has."""
    whole, *halves = (
        torch.tensor(Acceleration(run=RUN, draws=100).find(attrs.evolve(some(), group=group)).curves["monitor"])
        for group in (Group(), Half(Rank(0, 2)), Half(Rank(1, 2)))
    )
    assert torch.equal(halves[0] + halves[1], whole)
    assert not bool((halves[0] * halves[1]).any())
    assert bool(halves[0].any() and halves[1].any())


def test_networks_see_pixels_in_their_range():
    """Edges of another range would be those of another network."""
    with pytest.raises(PartError, match=r"networks see pixels in \[-1, 1\]"):
        Dirichlet(run=RUN, pixels="0..1").find(subject(denoiser=lambda run: GaussianEstimate()))
