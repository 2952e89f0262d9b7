"""Training times: each law's distribution, and draws inside stages."""

import itertools

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import msdk
from msdk.errors import PartError
from msdk.noise_levels.beta import Beta
from msdk.noise_levels.edm import EDM
from msdk.noise_levels.laplace import Laplace
from msdk.noise_levels.speed import Speed
from msdk.noise_levels.steps import Steps
from msdk.noise_levels.uniform import Uniform
from msdk.partition import Partition
from msdk.schedules.ve import VE
from msdk.schedules.vp import VPLinear
from msdk.schedules.vp_discrete import VPDiscrete, VPScaledLinear

every_law = pytest.mark.parametrize("law", [msdk.noise_levels.get(name)() for name in msdk.noise_levels.names()])
every_schedule = pytest.mark.parametrize("schedule", [msdk.schedules.get(name)() for name in msdk.schedules.names()])
PAPER = Partition((2.5103, 7.6577))


@every_schedule
@every_law
def test_cdf_and_quantile_are_inverse(law, schedule):
    """The time below which a share u of the draws lies has the probability u."""
    u = torch.linspace(0.01, 0.99, 99, dtype=torch.float64)
    times = law.quantile(schedule, u)
    assert bool((times.diff() > 0).all())
    assert [law.cdf(schedule, t) for t in times.tolist()] == pytest.approx(u.tolist(), rel=1e-9)


@every_schedule
@every_law
def test_cdf_is_defined_on_the_whole_schedule(law, schedule):
    """From t_min to t_max it is a probability and never falls."""
    times = torch.linspace(schedule.t_min, schedule.t_max, 101, dtype=torch.float64).tolist()
    values = [law.cdf(schedule, t) for t in times]
    assert values == sorted(values)
    assert values[0] >= 0
    assert values[-1] <= 1


@every_schedule
@every_law
def test_draws_fall_inside_their_stage(law, schedule):
    """A time drawn for a stage belongs to it; the same generator state draws the same times, as float64."""
    stages = torch.arange(3).repeat(2000)
    times = law.draw(schedule, PAPER, stages, torch.Generator().manual_seed(0))
    assert times.dtype == torch.float64
    assert torch.equal(PAPER.at(times, schedule), stages)
    assert torch.equal(times, law.draw(schedule, PAPER, stages, torch.Generator().manual_seed(0)))


def test_draws_have_53_bits():
    """Draws of 24 bits would hit one time twice: among 20,000 some twelve would."""
    stages = torch.ones(20_000, dtype=torch.int64)
    times = Uniform().draw(VPLinear(), PAPER, stages, torch.Generator().manual_seed(0))
    assert len(times.unique()) == 20_000


@every_schedule
@every_law
def test_shares_are_what_unified_draws_make(law, schedule):
    """Shares sum to 1 and match the stages of draws that know no stages, within 4 standard errors."""
    shares, draws = law.shares(schedule, PAPER), 20_000
    assert sum(shares) == pytest.approx(1, rel=1e-12)
    nowhere = torch.zeros(draws, dtype=torch.long)
    times = law.draw(schedule, Partition(), nowhere, torch.Generator().manual_seed(1))
    counts = torch.bincount(PAPER.at(times, schedule), minlength=3)
    for share, count in zip(shares, counts.tolist(), strict=True):
        assert abs(count / draws - share) <= 4 * (share * (1 - share) / draws) ** 0.5


@given(
    weights=st.sampled_from(["even", "cosmap", "sigmoid", "parabola"]),
    steps=st.integers(2, 60),
    slope=st.floats(0.1, 9),
    shift=st.floats(0.2, 5),
    u=st.floats(0, 1),
)
def test_a_quantile_of_weighted_steps_is_the_first_step_that_reaches_it(weights, steps, slope, shift, u):
    """Each share of the draws falls on a whole step, whose time is the lowest with that probability at or below it."""
    law, schedule = Steps(weights=weights, slope=slope, shift=shift), VPDiscrete(steps=steps)
    t = float(law.quantile(schedule, torch.tensor([u], dtype=torch.float64))[0])
    step = round(t * steps)
    assert t == pytest.approx(step / steps, rel=1e-12)
    assert law.cdf(schedule, t) >= u - 1e-9
    assert step == 1 or law.cdf(schedule, (step - 1) / steps) <= u + 1e-9


def test_weighted_steps_have_the_shares_of_their_density():
    """A sigmoid gives the last of eleven steps what its formula says; a middle outside of the table is refused."""
    schedule = VPDiscrete(steps=11)
    wanted = torch.sigmoid(4 * (torch.linspace(0, 1, 11, dtype=torch.float64) - 0.3))
    below = [Steps(weights="sigmoid", slope=4.0, middle=0.3).cdf(schedule, step / 11) for step in range(12)]
    assert torch.tensor(below, dtype=torch.float64).diff().tolist() == pytest.approx((wanted / wanted.sum()).tolist())
    with pytest.raises(PartError, match="must be a share of the table"):
        Steps(weights="parabola", middle=1.5)


def test_edm_shares_of_the_papers_stages():
    """EDM's log-normal law spends 96.14, 3.51 and 0.35 % of training on the paper's three stages."""
    assert EDM().shares(msdk.schedules.get("edm")(), PAPER) == pytest.approx([0.9614, 0.0351, 0.0035], abs=5e-5)


def test_edm_shares_do_not_depend_on_the_schedule():
    """The law is stated in ratio, so another schedule changes its times, not its stages."""
    assert EDM().shares(VPLinear(), PAPER) == pytest.approx(EDM().shares(msdk.schedules.get("edm")(), PAPER), rel=1e-9)


def test_uniform_shares_are_lengths_above_the_first_time():
    """Each stage's share is its length over that of [t_first, t_max]."""
    partition = Partition.of_times((0.442, 0.6308), VPLinear())
    expected = [(0.442 - 0.01) / 0.99, (0.6308 - 0.442) / 0.99, (1 - 0.6308) / 0.99]
    assert Uniform(t_first=0.01).shares(VPLinear(), partition) == pytest.approx(expected, rel=1e-12)
    assert Uniform(t_first=0.5).shares(VPLinear(), partition)[0] == 0


TABLES = [VPScaledLinear(), VPDiscrete(steps=50), VPDiscrete(steps=50, clock="held")]


@pytest.mark.parametrize("schedule", TABLES, ids=["ldm", "steps", "held"])
def test_steps_are_whole_and_each_has_the_same_share(schedule):
    """Draws of all stages are times of steps; the first one is drawn like any other."""
    count = schedule.steps
    held = schedule.clock == "held"
    times = torch.tensor([i / (count - 1) if held else (i + 1) / count for i in range(count)], dtype=torch.float64)
    partition = Partition.of_times(
        [float(times[int(0.442 * count) - 1]), float(times[int(0.62 * count) - 1])], schedule
    )
    edges = [int(0.442 * count), int(0.62 * count)]
    wanted = [edges[0], edges[1] - edges[0], count - edges[1]]
    assert Steps().shares(schedule, partition) == pytest.approx([each / count for each in wanted], rel=1e-12)
    for stage, (first, last) in enumerate(itertools.pairwise([0, *edges, count])):
        draws = 40 * (last - first)
        stages = torch.full((draws,), stage)
        drawn = Steps().draw(schedule, partition, stages, torch.Generator().manual_seed(0))
        nearest = (drawn[:, None] - times).abs().min(1)
        assert float(nearest.values.max()) < 1e-15
        counts = torch.bincount(nearest.indices, minlength=count)
        assert int(counts[:first].sum()) == int(counts[last:].sum()) == 0
        # 40 expected of each step, within 5.5 standard deviations.
        assert int((counts[first:last] - 40).abs().max()) < 5.5 * 40**0.5


def test_steps_of_ldms_stages():
    """442, 189 and 369 of LDM's 1000 steps, and on `ve` the thousand levels of SMLD."""
    partition = Partition.of_times((0.442, 0.631), VPScaledLinear())
    assert Steps().shares(VPScaledLinear(), partition) == pytest.approx([0.442, 0.189, 0.369], rel=1e-12)
    drawn = Steps(count=7).quantile(VE(), torch.linspace(0.001, 0.999, 700, dtype=torch.float64))
    assert drawn.unique().tolist() == pytest.approx([i / 6 for i in range(7)], rel=1e-12)


@pytest.mark.parametrize(("alpha", "beta"), [(0.5, 0.5), (2.0, 5.0), (0.05, 3.0), (7.5, 0.3)])
def test_beta_is_the_regularised_integral(alpha, beta):
    """Its mean and variance are Beta's, its quantiles invert it, and it mirrors that with alpha and beta exchanged."""
    law = Beta(alpha=alpha, beta=beta)
    u = (torch.arange(20_000, dtype=torch.float64) + 0.5) / 20_000
    x = law.share(u)
    assert float(x.mean()) == pytest.approx(alpha / (alpha + beta), rel=2e-4)
    variance = alpha * beta / (alpha + beta) ** 2 / (alpha + beta + 1)
    assert float(x.var()) == pytest.approx(variance, rel=2e-3)
    assert [law.below(each) for each in x[::997].tolist()] == pytest.approx(u[::997].tolist(), rel=1e-9)
    mirrored = 1 - Beta(alpha=beta, beta=alpha).below(0.37)
    assert law.below(0.63) == pytest.approx(mirrored, rel=1e-11)


def test_beta_has_its_closed_forms():
    """u^(1 / alpha) where beta is 1, and its mirror image; the integral agrees next to them."""
    u = torch.linspace(0.01, 0.99, 99, dtype=torch.float64)
    for closed, near in (
        (Beta(alpha=0.8), Beta(alpha=0.8, beta=1 + 1e-12)),
        (Beta(alpha=1.0, beta=2.5), Beta(alpha=1 + 1e-12, beta=2.5)),
    ):
        torch.testing.assert_close(closed.share(u), near.share(u), rtol=1e-9, atol=0)


def test_speed_draws_late_times_less_often():
    """A share of k tau / (k tau + 1 - tau) lies before tau, evenly."""
    law = Speed(tau=0.7, factor=5.0)
    assert law.below(0.7) == pytest.approx(3.5 / 3.8, rel=1e-12)
    assert law.below(0.35) == pytest.approx(1.75 / 3.8, rel=1e-12)


def test_laplace_is_of_the_log_snr():
    """Half of the draws have a log SNR above the mean, and their mean distance from it is the scale."""
    schedule, law = VPLinear(), Laplace(mean=0.6, scale=0.5)
    u = (torch.arange(100_000, dtype=torch.float64) + 0.5) / 100_000
    snr = 2 * schedule.lam(law.quantile(schedule, u))
    assert float(snr.median()) == pytest.approx(0.6, abs=1e-4)
    assert float((snr - 0.6).abs().mean()) == pytest.approx(0.5, rel=1e-3)
