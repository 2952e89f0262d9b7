"""Strategies look at time on the schedule's own clock: t itself, or what EDM's grid is even in where t is noise."""

import attrs
import pytest
import torch

from msdk import clusterings, schedules
from msdk.clusterings.segmentation import grid
from msdk.schedules.clocks import Clock
from msdk.testing.clusterings import some

EDM, VP = schedules.get("edm")(), schedules.get("vp-linear")()


@pytest.mark.parametrize("name", ["uniform-t", "quadratic-t", "power-t", "uniform-lam", "rho"])
def test_a_clock_reads_and_finds_times(name):
    """The time of a reading has that reading, for floats and tensors, and shares of the way end where it does."""
    clock = Clock(name, EDM)
    times = torch.tensor([0.002, 0.3, 7.0, 80.0], dtype=torch.float64)
    torch.testing.assert_close(clock.time(clock.reading(times)), times, rtol=1e-12, atol=0)
    assert clock.time(clock.reading(7.0)) == pytest.approx(7.0, rel=1e-12)
    ends = clock.between(0.002, 80.0, torch.tensor([0.0, 1.0], dtype=torch.float64))
    torch.testing.assert_close(ends, times[[0, -1]], rtol=1e-10, atol=0)


def test_the_clock_of_most_schedules_is_their_time():
    """To the last bit, as clusterings always saw it; EDM's is even in ratio^(1/7)."""
    assert torch.equal(grid(VP, 8), torch.arange(1, 9, dtype=torch.float64) / 8)
    even = grid(EDM, 8) ** (1 / 7)
    torch.testing.assert_close(even.diff(), (even[1] - even[0]).expand(7), rtol=1e-9, atol=0)


@pytest.mark.parametrize("name", ["timestep", "snr", "similarity-matrix", "equal-error"])
def test_stages_of_a_noise_level_do_not_lie_in_the_noise(name):
    """Three stages of EDM's time begin at ratios of images: even times would cut pure noise, at 27 and 53."""
    settings = {"draws": 400, "points": 20} if name == "similarity-matrix" else {}
    edges = clusterings.get(name)(**settings).find(attrs.evolve(some(), schedule=EDM)).edges_t
    assert 0.01 < edges[0] < edges[1] < 27


def test_algorithm_1_finds_a_middle_stage_of_edm():
    """Nearly all of even times are noise, so that the mean similarity to it never fell below alpha before the data."""
    found = clusterings.get("optimal-denoiser")().find(attrs.evolve(some(), schedule=EDM))
    assert EDM.t_min < found.edges_t[0] < found.edges_t[1] < 20
