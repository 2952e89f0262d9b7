"""Promises of step-size control: what is taken, how long the next step is, and that adaptive samplers obey it."""

import math

import attrs
import pytest
import torch

from msdk.samplers.dpm_solver import DPMAdaptive
from msdk.samplers.runge_kutta import integrate, scipys_steps
from msdk.samplers.step_size import Past, StepSize
from msdk.schedules.vp import VPLinear
from msdk.testing import problems

PLAIN = StepSize(order=3, atol=1e-2, rtol=1e-1)


def test_an_error_is_in_units_of_what_is_allowed():
    """Tolerances are the greater or the sum of both; the error is that of the worst image or of all."""
    low, before = torch.tensor([[0.0, 1.0], [2.0, 4.0]]), torch.tensor([[0.05, -3.0], [0.0, 0.0]])
    greater, total = PLAIN.allowed(low, before), attrs.evolve(PLAIN, scale="sum").allowed(low, before)
    torch.testing.assert_close(greater, torch.tensor([[0.01, 0.3], [0.2, 0.4]]))
    torch.testing.assert_close(total, torch.tensor([[0.015, 0.31], [0.21, 0.41]]))
    difference = greater * torch.tensor([[1.0, 1.0], [3.0, 4.0]])
    assert PLAIN.error(difference, greater) == pytest.approx(math.sqrt(12.5))
    assert attrs.evolve(PLAIN, norm="batch").error(difference, greater) == pytest.approx(math.sqrt(27 / 4))


def test_an_integral_controller_makes_the_next_error_that_of_the_safety():
    """Where the error is the k-th power of the step, the next one is safety^k, from above and from below."""
    for error in (0.01, 0.9, 30.0):
        taken, factor, _ = PLAIN.judge(error, Past())
        assert taken == (error <= 1)
        assert error * factor**3 == pytest.approx(0.9**3)


def test_factors_have_limits():
    """No step is more than `most` times the last, or less than `least` times; after a rejection it may not grow."""
    limited = attrs.evolve(PLAIN, least=0.2, most=10.0, grows_after_rejection=False)
    assert limited.judge(1e-9, Past())[:2] == (True, 10.0)
    assert limited.judge(0.0, Past())[:2] == (True, 10.0)
    taken, factor, past = limited.judge(1e9, Past())
    assert (taken, factor) == (False, 0.2)
    assert limited.judge(1e-9, past)[:2] == (True, 1.0)


def test_memory_is_of_the_steps_that_were_taken():
    """P and D see the two errors before, as k-diffusion's controller does; a rejected one is forgotten."""
    pid = attrs.evolve(PLAIN, integral=0.4, proportional=0.7, derivative=0.1)
    _, _, past = pid.judge(0.5, Past())
    _, _, past = pid.judge(0.25, past)
    _, _, past = pid.judge(7.0, past)
    assert past == Past(rejected=True, errors=(0.25, 0.5))
    expected = 0.9 * 0.8 ** (-1.2 / 3) * 0.25 ** (0.9 / 3) * 0.5 ** (-0.1 / 3)
    assert pid.judge(0.8, past)[1] == pytest.approx(expected)


def test_a_steady_error_asks_for_the_same_step_of_every_controller():
    """At an error of 1 that stays, I, PI and PID all have the factor of the safety."""
    for gains in (
        {},
        {"integral": 0.4, "proportional": 0.7},
        {"integral": 0.3, "proportional": 0.6, "derivative": 0.2},
    ):
        assert attrs.evolve(PLAIN, **gains).judge(1.0, Past(errors=(1.0, 1.0)))[1] == pytest.approx(0.9)


def test_the_arctan_limiter_is_k_diffusions():
    """Its factor lies within (1 - pi / 4, 1 + pi / 2), and 0.81 decides."""
    soft = attrs.evolve(PLAIN, limiter="arctan")
    assert soft.judge(1e-12, Past())[1] < 1 + math.pi / 2
    assert soft.judge(1e12, Past())[1] > 1 - math.pi / 4 - 1e-3
    assert soft.judge(1.0, Past())[1] == pytest.approx(1)
    edge = (1 - math.tan(0.19)) ** -3
    assert [soft.judge(edge * off, Past())[0] for off in (0.999, 1.001)] == [True, False]


@pytest.mark.parametrize("tolerance", [1e-4, 1e-7])
def test_the_integrator_keeps_its_tolerance(tolerance):
    """A rotation by one radian comes out within some times the tolerance, with more slopes for a smaller one."""
    calls = []

    def slope(t, y):
        calls.append(t)
        return torch.stack([-y[1], y[0]])

    y = integrate(slope, torch.tensor([1.0, 0.0], dtype=torch.float64), 0.0, 1.0, scipys_steps(tolerance))
    assert y.tolist() == pytest.approx([math.cos(1), math.sin(1)], abs=20 * tolerance)
    assert max(calls) == 1


@pytest.mark.parametrize("control", ["published", "arctan"])
@pytest.mark.parametrize("gains", [{"integral": 0.4, "proportional": 0.7}, {"derivative": 0.1}])
def test_dpm_adaptive_takes_any_controller(control, gains):
    """With P and D it still ends where the exact flow does."""
    schedule = VPLinear()
    sampler = DPMAdaptive(control=control, atol=1e-3, rtol=1e-3, **gains)
    times = sampler.times(schedule, 1)
    x, exact = problems.mixture_flow(schedule, times[-1])
    assert (problems.sampled(sampler, schedule, times, problems.mixture_mean, x) - exact).abs().max() < 5e-3
