"""Loss weights by noise level."""

import math

import pytest
import torch

import msdk
from msdk.errors import PartError
from msdk.schedules.vp import VPLinear
from msdk.weightings.edm import EDM
from msdk.weightings.likelihood import Likelihood
from msdk.weightings.min_snr import MinSNR
from msdk.weightings.snr import SNR
from msdk.weightings.soft_min_snr import SoftMinSNR
from msdk.weightings.uniform import Uniform
from msdk.weightings.velocity import Velocity

every_pair = pytest.mark.parametrize(
    ("weighting", "schedule"),
    [
        pytest.param(msdk.weightings.get(name)(), msdk.schedules.get(other)(), id=f"{name}-{other}")
        for name in msdk.weightings.names()
        for other in msdk.schedules.names()
        if not (name in ("velocity", "likelihood") and other in ("cld", "pfgm"))  # which do not say how x_t moves
    ],
)
RATIOS = torch.logspace(-2, 1.5, 50, dtype=torch.float64)
every_schedule = pytest.mark.parametrize("schedule", [msdk.schedules.get(name)() for name in msdk.schedules.names()])


@every_pair
def test_weights_are_positive_and_floats_agree(weighting, schedule):
    """Every noise level counts, and a float's weight is a tensor's."""
    times = schedule.t_of_ratio(RATIOS)
    weights = weighting.weight(schedule, times)
    assert bool((weights > 0).all())
    assert weights.tolist() == pytest.approx([weighting.weight(schedule, t) for t in times.tolist()], rel=1e-12)


@every_schedule
@pytest.mark.parametrize(
    ("weighting", "parameterization"),
    [
        (Uniform(), msdk.parameterizations.get("eps")()),
        (SNR(power=0.0), msdk.parameterizations.get("x0")()),
        (EDM(sigma_data=0.7), msdk.parameterizations.get("edm")(sigma_data=0.7)),
    ],
)
def test_the_matching_parameterization_sees_weight_one(weighting, parameterization, schedule):
    """The published pairs weigh the error of the network's own output with 1 at every noise level."""
    t = schedule.t_of_ratio(RATIOS)
    c = parameterization.coefficients(schedule, t)
    torch.testing.assert_close(weighting.weight(schedule, t) * c.c_out**2, torch.ones_like(t))


def test_closed_forms():
    """At sigma = 2 with sigma_data = 0.5: 1/4 for the simple loss, 4.25 for EDM's."""
    assert Uniform().weight(msdk.schedules.get("edm")(), 2.0) == 0.25
    assert EDM().weight(msdk.schedules.get("edm")(), 2.0) == 4.25


@pytest.mark.parametrize("gamma", [0.3, 1.0, 5.0])
def test_min_snr_is_right_for_every_prediction(gamma):
    """min(SNR, gamma) on the image, over SNR on the noise, over SNR + 1 on v (Hang et al., section 3.4), under VP."""
    schedule = VPLinear()
    t = schedule.t_of_ratio(RATIOS)
    snr = RATIOS**-2
    clamped = snr.clamp(max=gamma)
    for name, wanted in (("x0", clamped), ("eps", clamped / snr), ("v", clamped / (snr + 1))):
        c_out = msdk.parameterizations.get(name)().coefficients(schedule, t).c_out
        torch.testing.assert_close(MinSNR(gamma=gamma).weight(schedule, t) * c_out**2, wanted, rtol=1e-12, atol=0)


def test_closed_forms_of_ratios():
    """Powers, floors and offsets of the SNR, and its soft bound; with power 1 it is the simple loss."""
    edm = msdk.schedules.get("edm")()
    snr = RATIOS**-2
    torch.testing.assert_close(SNR().weight(edm, RATIOS), Uniform().weight(edm, RATIOS), rtol=1e-13, atol=0)
    torch.testing.assert_close(SNR(floor=1.0).weight(edm, RATIOS), snr.clamp(min=1.0), rtol=1e-13, atol=0)
    torch.testing.assert_close(SNR(power=0.5, offset=2.0).weight(edm, RATIOS), 2 + 1 / RATIOS, rtol=1e-13, atol=0)
    soft = SoftMinSNR(gamma=4.0).weight(edm, RATIOS)
    torch.testing.assert_close(soft, 4 * snr / (4 + snr), rtol=1e-13, atol=0)


@every_schedule
def test_velocities_weigh_alike(schedule):
    """An error of the velocity has weight 1, or the scheme's; the likelihood's is that of -d SNR / dt / 2."""
    try:
        schedule.f(schedule.t_max)
    except PartError:
        return
    t = schedule.t_of_ratio(RATIOS[5:-5])
    c_out = msdk.parameterizations.get("velocity")().coefficients(schedule, t).c_out
    torch.testing.assert_close(Velocity().weight(schedule, t) * c_out**2, torch.ones_like(t))
    alpha, sigma = schedule.alpha(t), schedule.sigma(t)
    cosmap = Velocity(scheme="cosmap").weight(schedule, t) * c_out**2
    torch.testing.assert_close(cosmap, 2 / (math.pi * (alpha**2 + sigma**2)))
    torch.testing.assert_close(Velocity(scheme="sigma-sqrt").weight(schedule, t) * c_out**2, sigma**-2)
    h = 1e-6 * t
    falls = (schedule.ratio(t - h) ** -2 - schedule.ratio(t + h) ** -2) / (2 * h)
    if not hasattr(schedule, "clock"):  # tables have kinks
        torch.testing.assert_close(Likelihood().weight(schedule, t), falls / 2, rtol=1e-5, atol=1e-8)
