"""Grids of a table are those of the original programs, also where steps do not divide it."""

import itertools

import numpy as np
import pytest

import msdk
from msdk.errors import PartError
from msdk.samplers.base import call_times, steps_for
from msdk.samplers.ddim import DDIM
from msdk.samplers.ddpm import PLMS
from msdk.samplers.dpm_multistep import DPMpp2M
from msdk.samplers.grids import time_grid
from msdk.schedules.edm import EDM
from msdk.schedules.vp_discrete import VPDiscrete, VPScaledLinear
from recipes import tiny

TABLE = VPScaledLinear()


def labels(grid, steps, **options):
    """Numbers of the steps that are called, in the order of the calls."""
    times = time_grid(grid, TABLE, steps, 1e-3, 7.0, **options)
    return [round(1000 * t) - 1 for t in times[:-1]]


def test_latent_diffusions_uniform_grid_has_a_stride():
    """15 of 1000 steps have the stride 66 and are 16 calls, which budgets, nfe and the network agree on."""
    assert labels("ldm-uniform", 15) == list(range(990 + 1, 0, -66))
    sampler = DDIM(grid="ldm-uniform")
    assert sampler.intervals(TABLE, 15) == 16
    assert sampler.calls(sampler.intervals(TABLE, 15)) == [1] * 16
    assert steps_for(sampler, 16, TABLE) == 15
    recipe = tiny("schedule.name=vp-scaled-linear", 'sampler={name="ddim", grid="ldm-uniform"}', "sampling.steps=15")
    assert msdk.budget(recipe).nfe == 16
    assert len([t for interval in call_times(recipe.solver, recipe.schedule, recipe.steps) for t in interval]) == 16


def test_latent_diffusions_quadratic_grid_repeats_steps():
    """50 of 1000 steps name the first one twice; ddim and plms call it as often, other samplers once."""
    expected = ((np.linspace(0, np.sqrt(800), 50)) ** 2).astype(int) + 1
    assert labels("ldm-quadratic", 50, repeats=True) == expected[::-1].tolist()
    assert labels("ldm-quadratic", 50) == sorted(set(expected.tolist()), reverse=True)
    assert len(DDIM(grid="ldm-quadratic").times(TABLE, 50)) == 51
    assert PLMS(grid="ldm-quadratic").intervals(TABLE, 50) == 50
    assert DPMpp2M(grid="ldm-quadratic").intervals(TABLE, 50) == len(set(expected.tolist()))


def test_a_grid_beyond_the_table_is_told():
    """A stride that ends on the last step makes the original fail, which adds one to each."""
    with pytest.raises(PartError, match="begins one step beyond the 1000 of the table"):
        time_grid("ldm-uniform", TABLE, 1000, 1e-3, 7.0)


def test_strided_is_guided_diffusions_ddim():
    """The smallest whole stride that makes as many steps: 67 for 15; none makes 300."""
    assert labels("strided", 15) == list(range(938, -1, -67))
    assert labels("strided", 20) == labels("leading", 20)
    assert labels("leading", 15) == list(range(924, -1, -66))
    with pytest.raises(PartError, match="no whole stride makes 300 of 1000 steps: use 250 or 334"):
        time_grid("strided", TABLE, 300, 1e-3, 7.0)


@pytest.mark.parametrize("count", [1, 2, 21, 27, 35, 48, 61, 100, 1000])
def test_rounding_is_that_of_the_programs(count):
    """Numpy's linspace and arange in diffusers, a running sum in guided-diffusion: 499.5 goes up or down."""
    table = VPDiscrete()
    assert [round(1000 * t) - 1 for t in time_grid("linspace", table, count, 1e-3, 7.0)[:-1]] == (
        np.linspace(0, 999, count).round()[::-1].astype(int).tolist()
    )
    trailing = (np.round(np.arange(1000, 0, -1000 / count)) - 1).astype(int).tolist()
    assert labels("trailing", count) == trailing[:count]  # of 61 steps, the original's 62nd is -1
    place, spaced = 0.0, []
    for _ in range(count):
        spaced.append(round(place))
        place += 999 / (count - 1) if count > 1 else 1
    assert labels("respaced", count) == spaced[::-1]


def test_running_sums_round_otherwise():
    """Of 21 steps the middle one, at 499.5, is 500 for diffusers and 499 for guided-diffusion."""
    assert (labels("linspace", 21)[10], labels("respaced", 21)[10]) == (500, 499)


@pytest.mark.parametrize("steps", [1, 8, 13])
def test_progressive_distillations_grid_is_ddim_on_rho(steps):
    """`steps` intervals of EDM's grid that end at 0.002, without the clean image, each one Euler step in sigma."""
    times = DDIM(grid="rho", t_end=0.002).times(EDM(), steps)
    ramp = (80 ** (1 / 7) + np.linspace(0, 1, steps + 1) * (0.002 ** (1 / 7) - 80 ** (1 / 7))) ** 7
    np.testing.assert_allclose(times, ramp, rtol=1e-12)
    assert all(later < earlier for earlier, later in itertools.pairwise(times))
