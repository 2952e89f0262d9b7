"""Closed forms of combinations: projections vector by vector, and the equation of the bargain."""

from random import Random

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from msdk.combinations.nash_mtl import NashMTL, solution
from msdk.combinations.pcgrad import PCGrad

NUMBERS = st.floats(-3, 3).map(lambda number: round(number, 3))


def gradients():
    """Some vectors, as rows."""
    return st.integers(1, 5).flatmap(
        lambda count: st.lists(st.lists(NUMBERS, min_size=4, max_size=4), min_size=count, max_size=count)
    )


def drawn(seed):
    return Random(seed)


def projected(vectors, generator):
    """Algorithm 1 as it is printed, on the vectors themselves."""
    found = []
    for own, vector in enumerate(vectors):
        for other in sorted(set(range(len(vectors))) - {own}, key=lambda _: generator.random()):
            inner = vector @ vectors[other]
            if inner < 0:
                vector = vector - inner / vectors[other].square().sum() * vectors[other]
        found.append(vector)
    return torch.stack(found).sum(0)


def weights(rule, vectors, seed=0, before=None, iteration=0):
    gram = vectors @ vectors.T
    return rule.weights(gram, torch.ones_like(gram[0]) if before is None else before, iteration, drawn(seed))


@given(rows=gradients(), seed=st.integers(0, 9))
@settings(max_examples=80, deadline=None)
def test_projections_from_inner_products_are_those_of_vectors(rows, seed):
    """To 1e-9 of the vectors, in the same random order."""
    vectors = torch.tensor(rows, dtype=torch.float64)
    if (vectors.norm(dim=1) < 0.1).any():
        return
    wanted = projected(vectors, drawn(seed))
    torch.testing.assert_close(weights(PCGrad(), vectors, seed) @ vectors, wanted, rtol=1e-9, atol=1e-9)


def test_two_gradients_that_conflict_are_projected():
    """(1, 0) and (-1, 1): each without its part against the other, (1/2, 1/2) + (0, 1)."""
    vectors = torch.tensor([[1.0, 0.0], [-1.0, 1.0]], dtype=torch.float64)
    assert (weights(PCGrad(), vectors) @ vectors).tolist() == pytest.approx([0.5, 1.5], abs=1e-15)


def test_gradients_that_agree_are_summed():
    """Bit for bit."""
    vectors = torch.tensor([[1.0, 0.0, 2.0], [0.0, 3.0, 0.5], [1.0, 1.0, 1.0]], dtype=torch.float64)
    assert torch.equal(weights(PCGrad(), vectors), torch.ones(3, dtype=torch.float64))


def test_the_order_is_drawn():
    """Of three that conflict with each other the sum depends on it."""
    vectors = torch.tensor([[1.0, 0.0, 0.1], [-1.0, 1.0, 0.0], [-0.2, -1.0, 0.3]], dtype=torch.float64)
    assert len({tuple(weights(PCGrad(), vectors, seed).tolist()) for seed in range(9)}) > 1


@given(seed=st.integers(0, 10**6), count=st.integers(1, 6), scale=st.floats(-6, 6))
@settings(max_examples=80, deadline=None)
def test_the_bargain_solves_its_equation(seed, count, scale):
    """w_i (M w)_i = 1 to 1e-9, all weights positive, M the inner products over their Frobenius norm."""
    vectors = torch.randn(count, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)) * 10**scale
    gram = vectors @ vectors.T
    found = solution(gram, torch.ones(count, dtype=torch.float64))
    assert (found > 0).all()
    residual = found * (gram / torch.linalg.matrix_norm(gram) @ found)
    torch.testing.assert_close(residual, torch.ones_like(found), rtol=0, atol=1e-9)


@pytest.mark.parametrize("apart", [1e-2, 1e-4, 1e-6])
def test_the_bargain_of_nearly_opposite_gradients(apart):
    """Two of unit length with the cosine apart - 1: w = (2 (1 + cosine^2))^(1/4) / apart^(1/2) each, in closed form."""
    cosine = apart - 1
    gram = torch.tensor([[1.0, cosine], [cosine, 1.0]], dtype=torch.float64)
    wanted = (2 * (1 + cosine**2)) ** 0.25 / apart**0.5
    assert solution(gram, gram.new_ones(2)).tolist() == pytest.approx([wanted] * 2, rel=1e-7)


def test_the_bargain_is_kept_between_its_steps():
    """Weights are found every so many steps, and those of before stand in between, and where they cannot be found."""
    vectors = torch.tensor([[1.0, 0.0], [-1.0, 3.0]], dtype=torch.float64)
    before = torch.tensor([5.0, 7.0], dtype=torch.float64)
    rule = NashMTL(every=4)
    assert torch.equal(weights(rule, vectors, before=before, iteration=3), before)
    assert not torch.equal(weights(rule, vectors, before=before, iteration=8), before)
    assert torch.equal(weights(rule, vectors * torch.nan, before=before), before)
    assert torch.equal(weights(rule, vectors * 0, before=before), before)
