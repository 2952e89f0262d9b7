"""Laws of CKA, which says how alike features are whatever turns or scales them."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from msdk.inspecting import similarity
from msdk.inspecting.similarity import gram, similarities

seeds = st.integers(0, 2**30)


def drawn(seed, *shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def cka(one, other):
    return float(similarities([gram(one)], [gram(other)])[0, 0])


@given(seed=seeds, images=st.integers(4, 20), features=st.integers(1, 12), scale=st.floats(1e-3, 1e3))
def test_turns_shifts_and_scales_do_not_matter(seed, images, features, scale):
    """Features under an orthogonal map, another scale and mean are as like to others as before, and to themselves 1."""
    one, other = drawn(seed, images, features), drawn(seed + 1, images, 7)
    turn = torch.linalg.qr(drawn(seed + 2, features, features))[0]
    moved = scale * (one @ turn + drawn(seed + 3, features))
    assert cka(moved, other) == pytest.approx(cka(one, other), abs=1e-6)
    assert cka(moved, one) == pytest.approx(1, abs=1e-6)
    assert abs(cka(one, other)) <= 1 + 1e-12


@given(seed=seeds)
def test_another_map_does_matter(seed):
    """A map that stretches some directions makes other features: what CKA tells apart and correlations do not."""
    one = drawn(seed, 40, 6)
    stretched = one * torch.tensor([100.0, 1, 1, 1, 1, 1], dtype=torch.float64)
    assert cka(one, stretched) < 0.95


def test_blocks_of_features_are_added_up(monkeypatch):
    """Read a few features at a time, the matrix is that of all at once."""
    one = drawn(0, 9, 50)
    whole = gram(one)
    monkeypatch.setattr(similarity, "BLOCK", 7)
    torch.testing.assert_close(gram(one), whole, rtol=1e-12, atol=1e-12)


def test_it_is_the_unbiased_estimate():
    """HSIC as Song et al. write it, by its traces and sums; by chance alone it is 0, with more features than images."""
    one, other = drawn(0, 8, 5), drawn(1, 8, 3)
    n, ones = 8, torch.ones(8, dtype=torch.float64)

    def hsic(a, b):
        k, l = (x @ x.T for x in (a, b))  # noqa: E741  as there
        k.fill_diagonal_(0), l.fill_diagonal_(0)
        sums = (ones @ k @ ones) * (ones @ l @ ones) / ((n - 1) * (n - 2)) - 2 / (n - 2) * (ones @ k @ l @ ones)
        return ((k @ l).trace() + sums) / (n * (n - 3))

    wanted = hsic(one, other) / (hsic(one, one) * hsic(other, other)).sqrt()
    assert cka(one, other) == pytest.approx(float(wanted), rel=1e-9)
    chance = [cka(drawn(2 * seed, 12, 500), drawn(2 * seed + 1, 12, 500)) for seed in range(200)]
    assert abs(sum(chance) / 200) < 0.05  # 5 standard errors; without the correction it would be 0.9
