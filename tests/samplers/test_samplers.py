"""Samplers on problems whose exact denoiser is known: call counts, orders of convergence, and published samples."""

import contextlib
import functools
import itertools
import math
import typing
from collections import Counter

import attrs
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import msdk
from msdk.errors import PartError
from msdk.partition import Partition
from msdk.samplers.base import call_times, steps_for
from msdk.samplers.ddim import DDIM
from msdk.samplers.dpm_multistep import DPMpp2M
from msdk.samplers.dpm_solver import DPMSolver
from msdk.samplers.gddim import GDDIM
from msdk.samplers.heun import Heun
from msdk.samplers.pfgm import PFGM
from msdk.samplers.time_heun import TimeHeun
from msdk.samplers.unipc import UniPC
from msdk.schedules.vp import VPLinear
from msdk.schedules.vp_discrete import VPDiscrete
from msdk.testing import problems
from msdk.testing.problems import mixture_flow, mixture_mean

every_sampler = pytest.mark.parametrize(
    "sampler",
    [
        *(msdk.samplers.get(name)() for name in msdk.samplers.names()),
        DPMSolver(order=1, last_orders=(2, 2, 3)),
        DPMSolver(order=2, grid="quadratic-t", last_orders=(1,), final_denoise=True),
        DPMSolver(order=3, grid="rho", last_orders=()),
    ],
    ids=str,
)
every_schedule = pytest.mark.parametrize("schedule", [msdk.schedules.get(name)() for name in msdk.schedules.names()])


def runs(sampler, schedule, steps):
    """Whether a sampler takes a schedule and a number of steps; what it does not take it refuses in words."""
    try:
        sampler.check(schedule, steps)
        sampler.times(schedule, steps)
    except PartError as error:
        words = str(error)
    else:
        return True
    assert len(words) > 20
    return False


def sampled(sampler, schedule, steps, mean, x, draws=()):
    """Runs a sampler around an exact denoiser `mean(y, ratio)`: the sample, and (t, x_t / alpha) of every call."""
    calls, draws = [], iter(draws)

    def denoise(x_t, t):
        y = x_t / schedule.alpha(t)
        calls.append((t, y))
        return mean(y, schedule.ratio(t))

    times = sampler.times(schedule, steps)
    memory = sampler.init(times)
    for t, s in itertools.pairwise(times):
        x, memory = sampler.step(denoise, schedule, x, t, s, memory, lambda *_: next(draws))
    assert next(draws, None) is None, "the sampler left noise unused"
    return x, calls


@every_schedule
@every_sampler
@pytest.mark.parametrize("steps", [1, 2, 5, 18])
def test_declared_calls_are_made(sampler, schedule, steps):
    """A budget may trust `calls`: it lists exactly the network calls of each interval, all within the schedule."""
    if not runs(sampler, schedule, steps):
        return
    times = sampler.times(schedule, steps)
    made = call_times(sampler, schedule, steps)
    if sampler.adaptive:
        assert all(least <= len(interval) for least, interval in zip(sampler.calls(steps), made, strict=True))
    else:
        assert sampler.calls(steps) == [len(interval) for interval in made]
    assert len(times) == len(made) + 1
    assert times[0] == schedule.t_max
    assert times == sorted(set(times), reverse=True)
    assert all(schedule.t_min - 1e-9 <= t <= schedule.t_max + 1e-9 for interval in made for t in interval)


reference = functools.cache(mixture_flow)


def without_noise():
    """Every registered sampler whose order can be measured, as it is and with each setting that its order may hang on.

    Those that always add noise, or choose their own steps, have no such order; gDDIM's state has velocities, so the
    published samples hold its order.
    """
    for name in msdk.samplers.names():
        cls = msdk.samplers.get(name)
        fields = {field.name: field for field in attrs.fields(cls)}
        if cls.adaptive or "grid" not in fields or cls is GDDIM or (cls.stochastic and "eta" not in fields):
            continue
        sampler = cls(**{"eta": 0.0} if "eta" in fields else {})
        found = [sampler]
        for key, field in fields.items():
            choices = {"order": range(1, 7), "corrects": [True, False], "grid": [], "quadrature": []}.get(key)
            if choices is None:
                choices = typing.get_args(field.type) if typing.get_origin(field.type) is typing.Literal else []
            for choice in choices:
                with contextlib.suppress(ValueError):  # beyond the orders that it has
                    found.append(attrs.evolve(sampler, **{key: choice}))
        yield from dict.fromkeys(found)


@pytest.mark.parametrize("sampler", list(without_noise()), ids=str)
@every_schedule
def test_the_order_of_convergence_is_the_declared_one(sampler, schedule):
    """Halving the steps' length divides the error by 2^order, on an even grid in log-SNR."""
    sampler = attrs.evolve(sampler, grid="uniform-lam")
    if not runs(sampler, schedule, 160):
        return
    grids = [[t for t in sampler.times(schedule, steps) if t > 0] for steps in (80, 160)]
    x, exact = reference(schedule, grids[0][-1])
    errors = [(problems.sampled(sampler, schedule, grid, mixture_mean, x) - exact).square().mean() for grid in grids]
    measured = math.log2(errors[0] / errors[1]) / 2
    kinks = isinstance(schedule, VPDiscrete) and isinstance(sampler, TimeHeun)  # its slopes are those of the table
    assert measured > sampler.convergence - (0.6 if kinks else 0.25)
    if sampler.order <= 4:  # above, 160 steps are too few for what is measured to mean much
        # Where orders are high, or vary from step to step, more may be measured.
        above = 0.15 if sampler.order <= 2 and not isinstance(sampler, TimeHeun | UniPC) else 1.15
        assert measured < max(sampler.order, sampler.convergence) + above


@every_schedule
@every_sampler
def test_adaptive_samplers_keep_their_tolerance(sampler, schedule):
    """A tighter tolerance brings more calls and a smaller error."""
    if not sampler.adaptive or not runs(sampler, schedule, 1) or isinstance(sampler, PFGM):
        return  # the Poisson flow of a Gaussian mixture has no closed form
    times = sampler.times(schedule, 1)
    x, exact = reference(schedule, times[-1])
    found = []
    for tolerance in (1e-2, 1e-4):
        names = {field.name for field in attrs.fields(type(sampler))} & {"atol", "rtol", "tolerance"}
        each = attrs.evolve(sampler, **dict.fromkeys(names, tolerance))
        x_0, calls = sampled(each, schedule, 1, mixture_mean, x)
        found.append((len(calls), float((x_0 - exact).abs().max())))
    assert found[1][0] > found[0][0]
    assert found[1][1] < max(found[0][1], 1e-3)
    assert found[1][1] < 0.02


def test_dpm_solver_spends_any_number_of_calls():
    """A recipe's `nfe` makes the published order sequence, settled once and for all; `steps` keeps what is given."""
    for order, nfe, expected in [
        (3, 18, [3, 3, 3, 3, 3, 2, 1]),
        (3, 19, [3, 3, 3, 3, 3, 3, 1]),
        (3, 20, [3, 3, 3, 3, 3, 3, 2]),
        (3, 3, [2, 1]),
        (3, 1, [1]),
        (2, 11, [2, 2, 2, 2, 2, 1]),
        (2, 10, [2, 2, 2, 2, 2]),
        (1, 4, [1, 1, 1, 1]),
    ]:
        for final in (False, True):
            sampler = DPMSolver(order=order, final_denoise=final).spending(nfe + final)
            steps = steps_for(sampler, nfe + final)
            assert sampler.calls(steps) == expected + [1] * final
            assert sampler.spending(nfe + final) == sampler
    assert DPMSolver(last_orders=()).spending(18).calls(6) == [3] * 6
    assert DPMSolver(order=3).calls(7) == [3, 3, 3, 3, 3, 3, 2]
    assert DPMSolver(last_orders=(2, 1)).calls(1) == [1]


def test_heun_makes_35_calls_in_18_steps():
    """EDM's setting: two calls per step and one in the last, so 35 calls are 18 steps."""
    assert sum(Heun().calls(18)) == 35
    assert steps_for(Heun(), 35) == 18


def test_the_papers_table_2_grid_spends_9_3_8_calls():
    """DPM-Solver++ on an even time grid of 20 points with a final denoising call: 20 calls, 9 / 3 / 8 by stage."""
    schedule, sampler = VPLinear(), DPMpp2M(grid="uniform-t", final_denoise=True)
    partition = Partition.of_times((0.442, 0.6308), schedule)
    times = [t for interval in call_times(sampler, schedule, 19) for t in interval]
    assert times == pytest.approx(torch.linspace(1, 1e-3, 20, dtype=torch.float64).tolist(), rel=1e-14)
    assert Counter(partition.at(t, schedule) for t in times) == {0: 9, 1: 3, 2: 8}


@pytest.mark.parametrize(
    ("sampler", "nfe", "nearest"),
    [
        (Heun(), 20, "exactly 20 network calls; the nearest are 19 and 21"),
        (DDIM(final_denoise=True), 1, "exactly 1 network calls; the nearest are 2 and 3"),
    ],
)
def test_an_impossible_number_of_calls_names_the_nearest(sampler, nfe, nearest):
    """No step count is rounded in silence."""
    with pytest.raises(PartError, match=nearest):
        steps_for(sampler, nfe)


@every_sampler
def test_a_number_of_calls_finds_its_steps(sampler):
    """`steps_for` undoes the sum of `calls`."""
    if sampler.adaptive:
        return
    assert [steps_for(sampler, sum(sampler.calls(steps))) for steps in (1, 7, 30)] == [1, 7, 30]


def test_impossible_grids_are_refused():
    """No steps, or an end above the start, is an error with the number given."""
    with pytest.raises(PartError, match="at least 1 step, got 0"):
        DDIM().times(VPLinear(), 0)
    with pytest.raises(PartError, match=r"t_end = 1\.5 must be below the schedule's t_max = 1\.0"):
        DDIM(t_end=1.5).times(VPLinear(), 10)


@settings(derandomize=True, deadline=None, max_examples=50)
@given(st.floats(0.01, 1), st.floats(0.02, 1), st.floats(0.01, 0.99))
def test_stochastic_ddim_keeps_the_marginal_variance(eta, t, share):
    """Around a perfect x_0 = 0, old noise and fresh noise add up to sigma_s^2 for every eta; eta = 1 is ancestral."""
    schedule, s = VPLinear(), t * share
    old, fresh = torch.eye(2, dtype=torch.float64)
    x_s, _ = DDIM(eta=eta).step(
        lambda x, _: torch.zeros_like(x), schedule, schedule.sigma(t) * old, t, s, None, lambda *_: fresh
    )
    kept, up = x_s.tolist()
    assert kept**2 + up**2 == pytest.approx(schedule.sigma(s) ** 2, rel=1e-12)
    posterior = schedule.sigma(s) / schedule.sigma(t) * math.sqrt(1 - (schedule.alpha(t) / schedule.alpha(s)) ** 2)
    assert up == pytest.approx(eta * posterior, rel=1e-6)


def test_stochastic_ddim_draws_once_per_step():
    """Each step but the last, to the clean image, takes one draw; eta = 0 takes none."""
    x, draws = torch.ones(1, 2, dtype=torch.float64), torch.zeros(5, 1, 2, dtype=torch.float64)
    sampled(DDIM(eta=0.5, final_denoise=True), VPLinear(), 5, mixture_mean, x, draws)
    sampled(DDIM(final_denoise=True), VPLinear(), 5, mixture_mean, x)
