"""Promises of noise: one path per image, the same on any grid, in any batch."""

import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import msdk
from msdk.sampling.noise import BrownianNoise, SeededNoise
from msdk.schedules.edm import EDM
from recipes import tiny

SCHEDULE = EDM(sigma_max=8.0)
LIKE = torch.empty(3, 1, 4, 4, dtype=torch.float64)


def increment(noise, t, s, like=LIKE):
    """What the path gains from t to s."""
    return noise(like, t, s) * math.sqrt(abs(t - s))


@settings(derandomize=True, deadline=None, max_examples=20)
@given(st.lists(st.floats(0.01, 7.9), min_size=1, max_size=4, unique=True))
def test_pieces_of_a_path_add_up(inner):
    """Whatever nodes lie between, the increments sum to that of the whole way, also to the clean image at 0."""
    nodes = [8.0, *sorted(inner, reverse=True), 0.0]
    whole = increment(BrownianNoise([0, 1, 2], SCHEDULE), 8.0, 0.0)
    parts = BrownianNoise([0, 1, 2], SCHEDULE)
    total = sum(increment(parts, t, s) for t, s in itertools.pairwise(nodes))
    torch.testing.assert_close(total, whole, rtol=0, atol=1e-9)


def test_a_path_depends_on_its_seed_alone():
    """Batch, order and what was asked before do not matter; another seed is another path."""
    together, alone = BrownianNoise([4, 7], SCHEDULE), BrownianNoise([7], SCHEDULE)
    together(LIKE[:2], 8.0, 5.0)
    assert torch.equal(together(LIKE[:2], 3.0, 2.0)[1:], alone(LIKE[:1], 3.0, 2.0))
    assert not torch.equal(*together(LIKE[:2], 3.0, 2.0))


def test_increments_are_standard_normal_and_independent():
    """Mean 0, variance 1, and no correlation between ways that do not overlap, short ones too."""
    like = torch.empty(40, 1, 16, 16, dtype=torch.float64)
    noise = BrownianNoise(range(40), SCHEDULE)
    draws = [noise(like, t, s).flatten() for t, s in ((8.0, 3.0), (3.0, 2.999), (2.999, 0.0))]
    for index, draw in enumerate(draws):
        assert abs(float(draw.mean())) < 0.05
        assert float(draw.var()) == pytest.approx(1, abs=0.05)
        for other in draws[index + 1 :]:
            assert abs(float((draw * other).mean())) < 0.05


def test_the_start_is_that_of_fresh_noise():
    """X at the first time is the same with either source."""
    ours = BrownianNoise([5], SCHEDULE)(LIKE[:1], 8.0, 8.0)
    assert torch.equal(ours, SeededNoise([5])(LIKE[:1]))


def test_a_seed_keeps_its_path_from_version_to_version():
    """Images that were drawn can be drawn again: the first numbers of seed 3, as they have always been."""
    found = BrownianNoise([3], SCHEDULE)(torch.empty(1, 1, 2, 1, dtype=torch.float64), 8.0, 2.0)
    assert found.flatten().tolist() == pytest.approx([0.37289082216783487, -1.6228862054955393], rel=1e-12)


def test_a_finer_grid_keeps_the_image():
    """An SDE sampler on Brownian noise goes to nearly the same image with twice the steps, unlike with fresh noise."""
    denoiser = msdk.build(tiny()).eval()
    sampler = msdk.samplers.get("dpmpp-sde")()
    apart = {}
    for noise in ("fresh", "brownian"):
        coarse, fine = (msdk.sample(denoiser, sampler, steps, range(4), noise=noise) for steps in (40, 80))
        apart[noise] = float((coarse - fine).abs().mean())
    assert apart["brownian"] < apart["fresh"] / 2
