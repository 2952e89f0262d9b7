"""Stages cover the noise ratio once, and agree however a noise level is given."""

import math

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from msdk.errors import PartError
from msdk.partition import Partition, Stage
from msdk.schedules.edm import EDM
from msdk.schedules.vp import VPLinear

law = settings(derandomize=True, deadline=None, max_examples=100)
ratios = st.floats(0, 1e6)
partitions = st.lists(st.floats(1e-3, 1e3), unique=True, max_size=5).map(lambda edges: Partition(sorted(edges)))
schedules = st.sampled_from([VPLinear(), EDM()])


@law
@given(partitions, ratios)
def test_every_ratio_has_exactly_one_stage(partition, ratio):
    """Stages leave no gap and do not overlap, and `of` names the one that covers a ratio."""
    covering = [stage.index for stage in partition.stages if stage.low < ratio <= stage.high]
    assert covering == ([partition.of(ratio)] if ratio > 0 else [])
    assert partition.of(0.0) == 0
    assert partition.of(math.inf) == len(partition) - 1


@law
@given(partitions)
def test_an_edge_belongs_to_the_lower_stage(partition):
    """Stage k ends with its edge; the next number above it is in stage k + 1."""
    for k, edge in enumerate(partition.edges):
        assert partition.of(edge) == k
        assert partition.of(math.nextafter(edge, math.inf)) == k + 1


@law
@given(partitions, st.lists(ratios, min_size=1, max_size=6))
def test_floats_and_tensors_agree(partition, levels):
    """A tensor of any shape gets, element by element, the int64 stages that its numbers get."""
    stages = [partition.of(level) for level in [*levels, *partition.edges]]
    found = partition.of(torch.tensor([*levels, *partition.edges], dtype=torch.float64)[:, None])
    assert (found.dtype, found.shape) == (torch.int64, (len(stages), 1))
    assert found.flatten().tolist() == stages
    assert partition.of(torch.tensor(levels[0], dtype=torch.float64)).shape == ()


@law
@given(partitions, st.floats(1e-4, 1), schedules)
def test_a_time_has_the_stage_of_its_ratio(partition, t, schedule):
    """`at` is `of` at the schedule's ratio, for floats and tensors, away from the rounding of an edge."""
    ratio = schedule.ratio(t)
    assume(not any(math.isclose(ratio, edge, rel_tol=1e-9) for edge in partition.edges))
    assert partition.at(t, schedule) == partition.of(ratio)
    assert partition.at(torch.tensor([t], dtype=torch.float64), schedule).tolist() == [partition.of(ratio)]
    assert partition.at(schedule.t_of_ratio(ratio), schedule) == partition.of(ratio)


@law
@given(st.floats(0.01, 150), schedules)
def test_the_time_of_an_edge_is_in_the_lower_stage(edge, schedule):
    """Rounding on the way from a ratio to a time and back, as float or tensor, moves no edge to the upper stage."""
    by_ratio = Partition((edge,))
    by_time = Partition.of_times((schedule.t_of_ratio(edge),), schedule) if edge < 80 else by_ratio
    for partition in (by_ratio, by_time):
        (t,) = partition.edges_t(schedule)
        assert partition.at(t, schedule) == 0
        assert partition.at(torch.tensor([t] * 8, dtype=torch.float64), schedule).tolist() == [0] * 8
        assert partition.at(t * (1 + 1e-9), schedule) == 1


def test_the_papers_edges_carry_from_vp_linear_to_edm():
    """The time 0.442 under vp-linear is the ratio 2.5103, where the EDM schedule has its edge."""
    partition = Partition.of_times((0.442, 0.6308), VPLinear())
    assert partition.edges == pytest.approx((2.5103, 7.4046), abs=5e-5)
    assert partition.edges_t(EDM()) == partition.edges
    assert partition.edges_t(VPLinear()) == pytest.approx((0.442, 0.6308), rel=1e-14)


def test_stages_as_times_run_without_a_gap():
    """`times` starts at t_min, ends at t_max, and each stage begins where the one below ends."""
    schedule = EDM()
    partition = Partition((2.5, 7.5))
    assert partition.times(schedule) == ((0.002, 2.5), (2.5, 7.5), (7.5, 80.0))
    assert partition.stages == (Stage(0, 0.0, 2.5), Stage(1, 2.5, 7.5), Stage(2, 7.5, math.inf))
    assert Partition().times(schedule) == ((0.002, 80.0),)


@pytest.mark.parametrize(
    ("edges", "words"),
    [
        ((2.0, 1.0), r"must ascend, but 2\.0 comes before 1\.0"),
        ((1.0, 1.0), r"must ascend, but 1\.0 comes before 1\.0"),
        ((0.0,), r"finite ratio above 0, got 0\.0"),
        ((-1.0, 1.0), r"finite ratio above 0, got -1\.0"),
        ((math.nan,), "finite ratio above 0, got nan"),
        ((1.0, math.inf), "finite ratio above 0, got inf"),
    ],
)
def test_bad_edges_are_refused(edges, words):
    """Edges that cover no range of ratios are an error that names the edge."""
    with pytest.raises(PartError, match=words):
        Partition(edges)


@pytest.mark.parametrize(
    ("edges", "words"),
    [
        ((0.6, 0.4), r"must ascend, but 0\.6 comes before 0\.4"),
        ((0.4, 1.0), r"t = 1\.0 lies outside the schedule's \(0\.0, 1\.0\)"),
        ((0.0,), r"t = 0\.0 lies outside"),
        ((math.nan,), "t = nan lies outside"),
    ],
)
def test_bad_times_are_refused(edges, words):
    """Times that are no interior edges of a schedule are an error that names the time."""
    with pytest.raises(PartError, match=words):
        Partition.of_times(edges, VPLinear())


@pytest.mark.parametrize("ratio", [-0.1, math.nan])
def test_no_stage_has_an_impossible_ratio(ratio):
    """A ratio below 0 or not a number is an error, not stage 0."""
    with pytest.raises(PartError, match="no stage has the ratio"):
        Partition((1.0,)).of(ratio)


def test_an_edge_that_a_schedule_never_reaches_is_refused():
    """An edge outside a schedule's range would leave a decoder without work."""
    Partition((2.5, 7.5)).check_within(EDM())
    with pytest.raises(PartError, match=r"edge ratio 100 lies outside the schedule's \(0\.002, 80\)"):
        Partition((2.5, 100.0)).check_within(EDM())
