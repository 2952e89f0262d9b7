"""Training times: each law's distribution, and draws inside stages."""

import pytest
import torch

import msdk
from msdk.noise_levels.base import stage_probabilities
from msdk.noise_levels.edm import EDM
from msdk.noise_levels.uniform import Uniform
from msdk.partition import Partition
from msdk.schedules.vp import VPLinear

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


def test_stage_probabilities():
    """`natural` keeps the law's shares; `uniform` is even over the stages that the law reaches at all."""
    assert stage_probabilities("natural", [0.9, 0.1, 0.0]) == [0.9, 0.1, 0.0]
    assert stage_probabilities("uniform", [0.9, 0.1, 0.0]) == [0.5, 0.5, 0.0]
