"""Laws that every registered noise schedule keeps, and the published values of each."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import msdk
from msdk.errors import PartError
from msdk.schedules.cld import CLD
from msdk.schedules.edm import EDM
from msdk.schedules.pfgm import PFGM
from msdk.schedules.rectified_flow import RectifiedFlow
from msdk.schedules.sub_vp import SubVP
from msdk.schedules.ve import VE
from msdk.schedules.vp import VPLinear
from msdk.schedules.vp_cosine import VPCosine
from msdk.schedules.vp_discrete import VPDiscrete, VPIDDPMCosine, VPScaledLinear

law = settings(derandomize=True, deadline=None, max_examples=50)
every_schedule = pytest.mark.parametrize("schedule", [msdk.schedules.get(name)() for name in msdk.schedules.names()])
fractions = st.floats(1e-3, 1)
close = {"rtol": 1e-10, "atol": 1e-10}


def time_at(schedule, fraction):
    return schedule.t_min + fraction * (schedule.t_max - schedule.t_min)


@every_schedule
@law
@given(fractions)
def test_inverses_round_trip(schedule, fraction):
    """`t_of_ratio` and `t_of_lam` undo `ratio` and `lam`, for floats and for tensors."""
    t = time_at(schedule, fraction)
    assert schedule.t_of_ratio(schedule.ratio(t)) == pytest.approx(t, rel=1e-10)
    assert schedule.t_of_lam(schedule.lam(t)) == pytest.approx(t, rel=1e-10)
    tensor = torch.tensor([t], dtype=torch.float64)
    torch.testing.assert_close(schedule.t_of_ratio(schedule.ratio(tensor)), tensor, **close)
    torch.testing.assert_close(schedule.t_of_lam(schedule.lam(tensor)), tensor, **close)


@law
@given(st.floats(0, 1))
def test_vp_linear_preserves_variance(t):
    """alpha^2 + sigma^2 = 1, and small times do not lose sigma to cancellation."""
    schedule = VPLinear()
    assert schedule.alpha(t) ** 2 + schedule.sigma(t) ** 2 == pytest.approx(1, abs=1e-14)
    assert schedule.sigma(t * 1e-12) == pytest.approx(math.sqrt(0.1 * t * 1e-12), rel=1e-9)


def test_edm_refuses_an_empty_range():
    """sigma_min must lie below sigma_max, and the message has both."""
    with pytest.raises(PartError, match=r"sigma_min = 2 must be below sigma_max = 1"):
        EDM(sigma_min=2, sigma_max=1)


PUBLISHED = {
    "vp_linear": VPLinear(),
    "cosine": VPCosine(),
    "vp_discrete_ldm": VPScaledLinear(),
    "vp_discrete_ddpm": VPDiscrete(),
    "vp_discrete_iddpm_cosine_clipped": VPIDDPMCosine(),
    "sub_vp": SubVP(),
    "ve": VE(),
    "rectified_flow": RectifiedFlow(),
    "edm": EDM(),
}


@pytest.mark.golden
@pytest.mark.parametrize("name", PUBLISHED)
def test_published_values(outside_data, name):
    """alpha, sigma, lam, drift, diffusion and the inverse of lam are those of the published programs to 1e-10."""
    schedule = PUBLISHED[name]
    with np.load(outside_data / "golden" / "samplers" / "data.npz") as data:
        prefix = f"sched/{name}/"
        facts = {key.removeprefix(prefix): torch.from_numpy(data[key]) for key in data.files if key.startswith(prefix)}
    # The program drops the noisiest steps of a table, and spreads the others over the same time.
    facts["t"] = facts["t"] * (float(facts["n_nodes_after_clip"][0]) / 1000 if "n_nodes_after_clip" in facts else 1.0)
    compared = 0
    for field in ("alpha", "sigma", "lam", "f", "g2"):
        if field in facts:
            known = facts[field].isfinite()
            found = getattr(schedule, field)(facts["t"])
            torch.testing.assert_close(found[known], facts[field][known], **close)
            one_by_one = [getattr(schedule, field)(t) for t in facts["t"][known].tolist()]
            torch.testing.assert_close(torch.tensor(one_by_one, dtype=torch.float64), facts[field][known], **close)
            compared += 1
    assert compared >= 3
    if "t_of_lam" in facts:
        torch.testing.assert_close(schedule.t_of_lam(facts["lam"]), facts["t_of_lam"], **close)
        torch.testing.assert_close(schedule.t_of_lam(facts["lam_query"]), facts["t_of_lam_query"], **close)


@every_schedule
@law
@given(fractions)
def test_drift_and_diffusion_are_the_derivatives(schedule, fraction):
    """F = d log alpha / dt and g2 = d sigma^2 / dt - 2 f sigma^2, between the steps of a table too."""
    if getattr(schedule, "clock", "") == "held" or isinstance(schedule, (PFGM, CLD)):
        return
    t = time_at(schedule, 0.02 + 0.96 * fraction)
    h = 1e-7 * t
    alpha = (math.log(schedule.alpha(t + h)) - math.log(schedule.alpha(t - h))) / (2 * h)
    sigma = (schedule.sigma(t + h) ** 2 - schedule.sigma(t - h) ** 2) / (2 * h)
    if isinstance(schedule, VPDiscrete) and abs(t * schedule.steps - round(t * schedule.steps)) < 1e-3:
        return  # a kink
    assert schedule.f(t) == pytest.approx(alpha, rel=1e-4, abs=1e-6)
    assert schedule.g2(t) == pytest.approx(sigma - 2 * alpha * schedule.sigma(t) ** 2, rel=1e-4, abs=1e-6)


@given(t=st.floats(0.0, 1.0))
def test_cld_is_its_matrices(t):
    """Alpha and sigma of the image are entries of the published transition and covariance."""
    schedule = CLD()
    assert schedule.alpha(t) == pytest.approx(float(schedule.transition(0.0, t)[0, 0]), rel=1e-12)
    assert schedule.sigma(t) ** 2 == pytest.approx(float(schedule.covariance(t)[0, 0]), rel=1e-9, abs=1e-12)


def test_a_part_of_a_table_has_its_alphas():
    """Every fifth step of ten is what the whole table has there; numbers of steps that no stride makes are refused."""
    whole, part = VPDiscrete(steps=10), VPDiscrete(steps=2, part_of=10)
    assert [part.alpha(t) for t in (0.5, 1.0)] == [whole.alpha(0.1), whole.alpha(0.6)]
    with pytest.raises(PartError, match="is no multiple of steps = 3"):
        VPDiscrete(steps=3, part_of=10)
