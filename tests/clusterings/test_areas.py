"""Strategies whose edges have a closed form: shares of the lowest log-SNR, SpeeD's areas, quantiles of a curriculum."""

import math

import attrs
import pytest
import torch

import msdk
from msdk.clusterings.curriculum import Curriculum
from msdk.clusterings.snr_share import SnrShare
from msdk.clusterings.speed import Speed
from msdk.errors import PartError
from msdk.schedules.edm import EDM
from msdk.schedules.rectified_flow import RectifiedFlow
from msdk.schedules.vp import VPLinear
from msdk.schedules.vp_cosine import VPCosine
from msdk.testing.clusterings import some
from recipes import tiny


def edges(strategy, schedule, **other):
    return strategy.find(attrs.evolve(some(), schedule=schedule, **other)).edges_t


@pytest.mark.parametrize(("last", "edge"), [(0.98, 0.875), (81 / 82, 0.9)])
def test_half_of_the_lowest_log_snr_has_the_published_edges(last, edge):
    """Wan 2.2's two boundaries, of straight paths; log SNR there is half of what it is at the end."""
    flow = RectifiedFlow()
    (found,) = edges(SnrShare(stages=2, t_last=last), flow)
    assert found == pytest.approx(edge, rel=1e-12)
    assert flow.lam(found) == pytest.approx(flow.lam(last) / 2, rel=1e-12)


@pytest.mark.parametrize("schedule", [VPLinear(), EDM(), RectifiedFlow()])
def test_snr_shares_are_even(schedule):
    """Of four stages the edges are at 1, 2 and 3 quarters of the lowest log-SNR, in any schedule's time."""
    shares = [schedule.lam(t) / schedule.lam(schedule.t_max) for t in edges(SnrShare(stages=4), schedule)]
    assert shares == pytest.approx([0.25, 0.5, 0.75], rel=1e-9)


@pytest.mark.parametrize(("last", "words"), [(0.2, "no stronger than the image"), (2.0, "lies outside the schedule's")])
def test_snr_shares_need_noise(last, words):
    """There is no half of a log-SNR that is not negative."""
    with pytest.raises(PartError, match=words):
        edges(SnrShare(t_last=last), RectifiedFlow())


@pytest.mark.parametrize("schedule", [VPLinear(), VPLinear(beta_min=0.5, beta_max=10.0)])
def test_areas_of_the_linear_schedule_have_a_closed_form(schedule):
    """Alpha-bar bends where beta^2 = d beta / dt, and is 1 / converged at the root of a quadratic."""
    low, slope, converged = schedule.beta_min, schedule.beta_max - schedule.beta_min, 100.0
    turn = (math.sqrt(slope) - low) / slope
    end = (math.sqrt(low**2 + 2 * slope * math.log(converged)) - low) / slope
    assert edges(Speed(converged=converged), schedule) == pytest.approx((turn, end), abs=1e-6)
    assert schedule.alpha(end) ** 2 == pytest.approx(1 / converged)
    assert edges(Speed(converged=converged, stages=2), schedule) == pytest.approx((end,), abs=1e-12)


def test_published_areas():
    """The default is the 700 of 1000 steps of the linear schedule; cos^2 and straight paths turn in their middle."""
    assert edges(Speed(), VPLinear())[1] == pytest.approx(0.7, abs=5e-4)
    assert edges(Speed(), RectifiedFlow())[0] == pytest.approx(0.5, abs=1e-6)
    assert edges(Speed(), VPCosine(offset=0.0))[0] == pytest.approx(0.5, abs=1e-6)


def test_areas_that_do_not_come_in_turn_are_refused():
    """Where the image counts half it still changes fast."""
    with pytest.raises(PartError, match=r"changes fastest at t = 0\.5 and has converged at 0\.4142"):
        edges(Speed(converged=1.5), RectifiedFlow())


def test_a_curriculum_has_equally_many_images_in_each_stage():
    """By the recipe's own law: even in time for an even one, normal quantiles of log sigma for EDM's."""
    curriculum = 'stages={clustering={name="curriculum"}}'
    even = msdk.cluster(tiny(curriculum, 'training.noise={name="uniform"}')).strategies[0]
    assert even.edges_t == pytest.approx((1 / 3, 2 / 3), abs=1e-4)
    edm = 'training.noise={name="edm", mean=-1.2, std=1.2}'
    recipe = tiny(curriculum, 'schedule={name="edm"}', "sampler.name=heun", edm)
    found = msdk.cluster(recipe).strategies[0]
    quantile = torch.special.ndtri(torch.tensor([1 / 3, 2 / 3], dtype=torch.float64))
    assert found.edges_ratio == pytest.approx((-1.2 + 1.2 * quantile).exp().tolist(), rel=1e-9)
    shares = recipe.with_partition(msdk.cluster(recipe).partition()).natural_shares()
    assert shares == pytest.approx([1 / 3] * 3, rel=1e-9)


def test_a_curriculum_of_few_steps_is_refused():
    """Where times are whole steps, shares of one step are none."""
    with pytest.raises(PartError, match="has not 20 shares that end at different times"):
        edges(Curriculum(stages=20), VPLinear(), drawn=lambda share: math.ceil(4 * share) / 4)
