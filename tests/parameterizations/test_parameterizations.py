"""What the network is fed and asked for: laws of every parameterisation, and the closed form of each."""

import math

import pytest
import torch

import msdk
from msdk.parameterizations.edm import EDM
from msdk.parameterizations.eps import Eps
from msdk.parameterizations.v import V
from msdk.parameterizations.velocity import Velocity
from msdk.parameterizations.x0 import X0
from msdk.schedules.vp import VPLinear

every_pair = pytest.mark.parametrize(
    ("parameterization", "schedule"),
    [
        pytest.param(msdk.parameterizations.get(name)(), msdk.schedules.get(other)(), id=f"{name}-{other}")
        for name in msdk.parameterizations.names()
        for other in msdk.schedules.names()
        if not (name == "velocity" and other in ("cld", "pfgm"))  # which do not say how x_t moves
    ],
)
RATIOS = torch.logspace(-2, 1.5, 50, dtype=torch.float64)
every_schedule = pytest.mark.parametrize("schedule", [msdk.schedules.get(name)() for name in msdk.schedules.names()])
FIELDS = ("c_skip", "c_out", "c_in", "c_noise")


@every_pair
def test_the_target_gives_back_the_image(parameterization, schedule):
    """A network that hits its target makes the denoiser return x_0, at every noise level."""
    t = schedule.t_of_ratio(RATIOS)
    x_0, eps = torch.randn(2, len(t), generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    x_t = schedule.alpha(t) * x_0 + schedule.sigma(t) * eps
    c = parameterization.coefficients(schedule, t)
    of_image, of_noise = parameterization.target_weights(schedule, t)
    torch.testing.assert_close(c.c_skip * x_t + c.c_out * (of_image * x_0 + of_noise * eps), x_0, rtol=0, atol=1e-11)


@every_pair
def test_floats_and_tensors_agree(parameterization, schedule):
    """The coefficients of a float are those of a float64 tensor."""
    times = schedule.t_of_ratio(RATIOS)
    tensors = parameterization.coefficients(schedule, times)
    for i, t in enumerate(times.tolist()):
        numbers = parameterization.coefficients(schedule, t)
        for field in FIELDS:
            assert getattr(numbers, field) == pytest.approx(getattr(tensors, field)[i].item(), rel=1e-13)


@every_schedule
def test_eps_asks_for_the_noise(schedule):
    """The target of the eps parameterisation is eps: weight 0 on the image and 1 on the noise."""
    of_image, of_noise = Eps().target_weights(schedule, schedule.t_of_ratio(RATIOS))
    torch.testing.assert_close(of_image, torch.zeros_like(of_image), rtol=0, atol=1e-13)
    torch.testing.assert_close(of_noise, torch.ones_like(of_noise), rtol=0, atol=1e-15)


@every_schedule
def test_mixed_eps_is_left_beside_normal_data(schedule):
    """Of standard normal data nothing is left to say: the target has no part along x_t; it gives back the image."""
    t, mixed = schedule.t_of_ratio(RATIOS), Eps(mixed=True)
    alpha, sigma = schedule.alpha(t), schedule.sigma(t)
    of_image, of_noise = mixed.target_weights(schedule, t)
    torch.testing.assert_close(of_image * alpha + of_noise * sigma, torch.zeros_like(t), rtol=0, atol=1e-9)
    c = mixed.coefficients(schedule, t)
    torch.testing.assert_close(c.c_skip * alpha + c.c_out * of_image, torch.ones_like(t), rtol=1e-12, atol=0)
    torch.testing.assert_close(c.c_skip * sigma + c.c_out * of_noise, torch.zeros_like(t), rtol=0, atol=1e-11)


def test_eps_feeds_the_image_and_999_t():
    """The network sees x_t as it is, and score_sde's continuous time."""
    t = 0.3
    c = Eps().coefficients(VPLinear(), t)
    assert (c.c_in, c.c_noise) == (1.0, 999 * t)
    assert c.c_skip == pytest.approx(math.exp(t * t * 19.9 / 4 + t * 0.05), rel=1e-14)
    assert c.c_out == pytest.approx(-math.sqrt(c.c_skip**2 - 1), rel=1e-14)


def test_edm_has_the_published_coefficients():
    """Table 1 of Karras et al. at sigma = 3 and sigma_data = 0.5."""
    c = EDM().coefficients(msdk.schedules.get("edm")(), 3.0)
    root = math.sqrt(9.25)
    expected = (0.25 / 9.25, 1.5 / root, 1 / root, math.log(3) / 4)
    assert tuple(getattr(c, field) for field in FIELDS) == pytest.approx(expected, rel=1e-14)


@every_schedule
def test_edm_keeps_unit_variance(schedule):
    """Images of standard deviation sigma_data give inputs and targets of variance 1, under any schedule."""
    t, data = schedule.t_of_ratio(RATIOS), 0.7
    parameterization = EDM(sigma_data=data)
    c = parameterization.coefficients(schedule, t)
    of_image, of_noise = parameterization.target_weights(schedule, t)
    inputs = c.c_in**2 * (schedule.alpha(t) ** 2 * data**2 + schedule.sigma(t) ** 2)
    targets = of_image**2 * data**2 + of_noise**2
    torch.testing.assert_close(inputs, torch.ones_like(t))
    torch.testing.assert_close(targets, torch.ones_like(t))


@pytest.mark.parametrize("name", [name for name in msdk.schedules.names() if name not in ("cld", "pfgm")])
def test_velocities_are_slopes_of_the_path(name):
    """The target of `velocity` is dx_t / dt by differences, of `v` a turn of image and noise, of `x0` the image."""
    schedule = msdk.schedules.get(name)()
    t = torch.linspace(0.1037, 0.9037, 9, dtype=torch.float64) * schedule.t_max
    h = 1e-6 * t
    wanted = [(each(t + h) - each(t - h)) / (2 * h) for each in (schedule.alpha, schedule.sigma)]
    found = Velocity().target_weights(schedule, t)
    if getattr(schedule, "clock", "") != "held":
        torch.testing.assert_close(torch.stack(found), torch.stack(wanted), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(Velocity(to_data=True).target_weights(schedule, t), tuple(-each for each in found))
    assert torch.equal(V().target_weights(schedule, t)[0], -schedule.sigma(t))
    assert torch.equal(V().target_weights(schedule, t)[1], schedule.alpha(t))
    assert torch.equal(X0().target_weights(schedule, t)[0], torch.ones_like(t))
