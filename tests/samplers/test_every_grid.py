"""Promises of every sampler on every grid of every schedule: it works, or is refused before any network call."""

import itertools
from typing import get_args

import attrs
import pytest
import torch

from msdk import samplers, schedules
from msdk.errors import PartError
from msdk.samplers.base import run
from msdk.samplers.euler import Euler
from msdk.samplers.grids import STEPS, TO_CLEAN, Grid

MEAN, STD = 0.3, 0.5
"""Of the normal distribution whose exact denoiser stands for a network."""


def denoiser(schedule, seen):
    def denoise(x, t):
        seen.append(t)
        alpha, sigma = schedule.alpha(t), schedule.sigma(t)
        clean = (MEAN * sigma**2 + alpha * STD**2 * x) / (alpha**2 * STD**2 + sigma**2)
        return clean[:, :2]  # some networks are fed more than they answer with

    return denoise


def settings(name):
    """A sampler with each of its grids, with and without a last call."""
    fields = attrs.fields_dict(samplers.get(name))
    grids = [{"grid": grid} for grid in get_args(Grid)] if "grid" in fields else [{}]
    ends = [{}, {"final_denoise": True}] if "final_denoise" in fields else [{}]
    return [samplers.get(name)(**grid, **end) for grid in grids for end in ends]


def images_and_calls(sampler, schedule, times):
    """The images of one run, and the network calls of each interval."""
    seen, ends = [], [0]
    x = sampler.start(schedule, lambda x, t, s: torch.ones_like(x), torch.zeros(1, 2, 2, 2, dtype=torch.float64))
    still = torch.zeros_like
    x = run(
        sampler, denoiser(schedule, seen), schedule, times, x, lambda x, *_: still(x), lambda _: ends.append(len(seen))
    )
    return x, [after - before for before, after in itertools.pairwise(ends)]


def assert_it_runs(sampler, schedule, steps):
    """What is not refused gives finite images in as many calls as it says; whether it was not."""
    where = f"{sampler}, {steps} steps"
    try:
        sampler.check(schedule, steps)
        times = sampler.times(schedule, steps)
    except PartError:
        return False
    try:
        x, calls = images_and_calls(sampler, schedule, times)
    except (ValueError, ZeroDivisionError, OverflowError) as error:
        pytest.fail(f"{where}: {error}")
    assert torch.isfinite(x).all(), where
    assert sampler.adaptive or calls == sampler.calls(sampler.intervals(schedule, steps)), where
    return True


@pytest.mark.parametrize("schedule", schedules.names())
def test_every_sampler_on_every_grid(schedule):
    """One step and three, from the first to the last sampler."""
    schedule = schedules.get(schedule)()
    every = [each for name in samplers.names() for each in settings(name)]
    assert sum(assert_it_runs(sampler, schedule, steps) for sampler in every for steps in (1, 3))


@pytest.mark.parametrize("steps", [15, 40])
def test_every_sampler_on_steps_that_do_not_divide_the_table(steps):
    """16 calls for 15 steps of latent diffusion's uniform grid, repeated steps in its quadratic one of 40."""
    schedule = schedules.get("vp-scaled-linear")()
    every = [each for name in samplers.names() for each in settings(name) if getattr(each, "grid", "") in STEPS]
    assert sum(assert_it_runs(sampler, schedule, steps) for sampler in every) > len(every) / 3


@pytest.mark.parametrize("grid", TO_CLEAN)
def test_euler_on_steps_of_a_table_is_ddim(grid):
    """With the ratio 0 last, Euler's method in the ratio is DDIM on the same grid, to rounding."""
    schedule = schedules.get("vp-discrete")()
    x = torch.randn(4, 2, 4, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    found = []
    for sampler in (Euler(grid=grid), samplers.get("ddim")(grid=grid)):
        times = sampler.times(schedule, 10)
        assert len(times) == 11
        assert times[-1] == 0
        found.append(run(sampler, denoiser(schedule, []), schedule, times, x, lambda *_: None))
    torch.testing.assert_close(found[0], found[1], rtol=0, atol=1e-12)


def test_a_second_way_to_the_clean_image_is_refused():
    """`final_denoise` on a grid that lands there by itself is told."""
    with pytest.raises(PartError, match="set final_denoise = false"):
        samplers.get("ddim")(grid="trailing", final_denoise=True).times(schedules.get("vp-discrete")(), 5)
