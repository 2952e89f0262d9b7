"""The cut of a time grid: exact optimality, bounds on lengths, and the paper's grid edges."""

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from subjects import subject

from msdk.clusterings.segmentation import Lengths, by_middle, within
from msdk.clusterings.snr import SNR
from msdk.clusterings.timestep import Timestep
from msdk.errors import PartError


def best_of_all(count, segments, lengths, cost):
    """All cuts tried: the cheapest, and of equals the one with the smallest starts, counted from the last segment."""
    candidates = []
    for cuts in itertools.combinations(range(1, count), segments - 1):
        pieces = list(itertools.pairwise((0, *cuts, count)))
        if all(lengths.shortest <= end - start <= lengths.longest for start, end in pieces):
            candidates.append((sum(cost(*piece) for piece in pieces), cuts[::-1]))
    return list(min(candidates)[1][::-1])


def lengths_of(draw, count, segments):
    """Bounds that allow a cut."""
    shortest = draw(st.integers(1, count // segments))
    return Lengths(shortest, draw(st.integers(-(-count // segments), count)))


@settings(derandomize=True, deadline=None, max_examples=80)
@given(st.data(), st.lists(st.integers(-50, 50), min_size=8, max_size=12), st.integers(1, 4))
def test_the_cut_by_middles_is_the_best_of_all(data, values, segments):
    """Dynamic programming finds what trying every cut finds, ties included, under any bounds."""
    lengths = lengths_of(data.draw, len(values), segments)

    def cost(start, end):
        return sum(abs(value - values[start + (end - start) // 2]) for value in values[start:end])

    tensor = torch.tensor(values, dtype=torch.float64)
    cuts = by_middle((tensor[:, None] - tensor).abs(), segments, lengths)
    assert cuts == best_of_all(len(values), segments, lengths, cost)


@settings(derandomize=True, deadline=None, max_examples=80)
@given(st.data(), st.integers(6, 10), st.integers(1, 4), st.integers(0, 999))
def test_the_cut_by_similarity_is_the_best_of_all(data, count, segments, seed):
    """The mean similarity within segments is the highest there is."""
    lengths = lengths_of(data.draw, count, segments)
    similarity = torch.rand(count, count, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    similarity = similarity + similarity.T

    def cost(start, end):
        return -float(similarity[start:end, start:end].sum()) / (end - start)

    assert within(similarity, segments, lengths) == best_of_all(count, segments, lengths, cost)


def test_similar_blocks_are_found():
    """Of a matrix of ones in blocks, the segments are the blocks."""
    similarity = torch.block_diag(*(torch.ones(n, n, dtype=torch.float64) for n in (3, 9, 5)))
    assert within(similarity, 3, Lengths(1, 17)) == [3, 12]


def test_the_papers_timestep_and_snr_edges():
    """On 1000 points of vp-linear: 0.334 / 0.667 by time and 0.348 / 0.709 by SNR, exactly points of the grid."""
    assert Timestep().find(subject()).edges_t == (334 / 1000, 667 / 1000)
    assert SNR().find(subject()).edges_t == (348 / 1000, 709 / 1000)


@pytest.mark.parametrize("stages", [2, 4, 5, 8])
def test_any_number_of_stages(stages):
    """The number of stages is a setting."""
    edges = SNR(stages=stages).find(subject()).edges_t
    assert len(edges) == stages - 1
    assert list(edges) == sorted(edges)


def test_bounds_on_lengths_are_kept():
    """Stages are at least `shortest` and at most `longest` of the grid."""
    edges = SNR(shortest=0.3, longest=0.36).find(subject()).edges_t
    bounds = [0.001, *edges, 1.001]
    for low, high in itertools.pairwise(bounds):
        assert 0.3 - 1e-9 <= high - low <= 0.36 + 1e-9


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ({"stages": 5, "points": 9}, "5 stages need a time grid of at least 10 points, got 9"),
        ({"shortest": 0.4}, "3 stages of at least 400 of 1000 points do not fit: lower shortest"),
        ({"longest": 0.3}, "3 stages of at most 300 of 1000 points leave a gap: raise longest"),
    ],
)
def test_bounds_that_no_cut_keeps_say_what_would(setting, words):
    """The error has the numbers and the remedy."""
    with pytest.raises(PartError, match=words):
        Timestep(**setting).find(subject())
