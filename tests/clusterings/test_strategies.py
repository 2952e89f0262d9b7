"""Every strategy: what it promises, and those whose edges have a closed form."""

import itertools
import math

import pytest
import torch
from subjects import limited, subject

import msdk
from msdk.clusterings.base import Subject
from msdk.clusterings.equal_cost import EqualCost
from msdk.clusterings.equal_error import EqualError
from msdk.clusterings.optimal_denoiser import OptimalDenoiser
from msdk.clusterings.similarity_matrix import SimilarityMatrix
from msdk.clusterings.uniform_lambda import UniformLambda
from msdk.errors import PartError
from msdk.schedules.edm import EDM
from msdk.schedules.rectified_flow import RectifiedFlow
from msdk.schedules.vp import VPLinear
from msdk.testing.clusterings import few_images


class Fixed:
    """A network whose gradient turns from one axis to the other as time goes on."""

    def gradient(self, t):
        return torch.tensor([math.cos(t), math.sin(t), 0.0])


def networks(run, *, checkpoints, iterations, batch, seed):
    return iter([Fixed()] * checkpoints)


def whole(schedule, seed=0):
    calls = torch.linspace(schedule.t_min, schedule.t_max, 20, dtype=torch.float64).tolist()
    low, length = schedule.t_min, schedule.t_max - schedule.t_min
    drawn = {"drawn": lambda share: low + share * length}
    return subject(schedule=schedule, calls=lambda: calls, models=networks, seed=seed, **drawn)


OWN = [name for name in msdk.clusterings.names() if msdk.clusterings.origin(name).owner == "msdk"]
"""Those of plugins have tests of their own."""

SCHEDULES = {"vp": VPLinear(), "edm": EDM(), "flow": RectifiedFlow()}

CUTS = [
    pytest.param(name, schedule, stages, id=f"{name}-{kind}-{stages}")
    for name in OWN
    for kind, schedule in SCHEDULES.items()
    for stages in (2, 3, 5)
    if (name, stages) != ("speed", 5)  # it has three areas
]


@pytest.mark.parametrize(("name", "schedule", "stages"), CUTS)
def test_edges_ascend_inside_the_schedule(name, schedule, stages):
    """One edge fewer than stages, ascending between t_min and t_max, the same each time, from what it says it needs."""
    clustering = msdk.clusterings.get(name)(stages=stages)
    given = limited(clustering, whole(schedule))
    found = clustering.find(given)
    assert len(found.edges_t) == stages - 1
    assert all(low < high for low, high in itertools.pairwise([schedule.t_min, *found.edges_t, schedule.t_max])), (
        found.edges_t
    )
    assert clustering.find(given) == found


@pytest.mark.parametrize("name", OWN)
def test_curves_and_matrices_fit_each_other(name):
    """Every curve has a value for each time, every matrix a row and a column, and intervals enclose their edges."""
    clustering = msdk.clusterings.get(name)()
    found = clustering.find(whole(VPLinear()))
    count = len(found.curves["t"])
    assert {len(values) for values in found.curves.values()} == {count}
    assert list(found.curves["t"]) == sorted(found.curves["t"])
    for matrix in found.matrices.values():
        assert [len(row) for row in matrix] == [count] * count
    if found.intervals_t is not None:
        for edge, (low, high) in zip(found.edges_t, found.intervals_t, strict=True):
            assert low <= edge <= high


@pytest.mark.parametrize("need", ["data", "calls", "models"])
def test_a_subject_without_what_a_strategy_needs_says_so(need):
    """What was left out of a subject is named."""
    bare = Subject(schedule=VPLinear())
    needy = {"data": EqualError(), "calls": EqualCost(), "models": msdk.clusterings.get("gradient")()}[need]
    with pytest.raises(PartError, match=r"this strategy looks at .*, but there (is|are) no"):
        needy.find(bare)


@pytest.mark.parametrize("stages", [2, 3, 4])
def test_uniform_lambda_cuts_log_snr_evenly(stages):
    """Lam of the edges is evenly spaced between that of the first and the last time."""
    schedule = VPLinear()
    lams = [schedule.lam(t) for t in (1e-3, *UniformLambda(stages=stages).find(subject()).edges_t, schedule.t_max)]
    steps = [high - low for low, high in itertools.pairwise(lams)]
    assert steps == pytest.approx([steps[0]] * stages, rel=1e-9)


def shares(edges, calls):
    bounds = [-math.inf, *edges, math.inf]
    return [sum(low <= call < high for call in calls) for low, high in itertools.pairwise(bounds)]


@pytest.mark.parametrize(
    ("calls", "stages", "expected"),
    [
        ([0.1, 0.2, 0.3, 0.4, 0.5, 0.6], 3, [2, 2, 2]),
        ([0.1, 0.2, 0.3, 0.4], 3, [1, 2, 1]),
        ([0.1, 0.1, 0.1, 0.2, 0.3, 0.4], 2, [3, 3]),
        ([0.1, 0.2, 0.3, 0.9, 0.9, 0.9, 0.9, 0.9], 3, [2, 1, 5]),
    ],
)
def test_equal_cost_shares_calls(calls, stages, expected):
    """Stages have the same number of calls, as nearly as calls at one time allow, and none is empty."""
    found = EqualCost(stages=stages).find(Subject(schedule=VPLinear(), calls=lambda: calls))
    assert shares(found.edges_t, calls) == expected


def test_equal_cost_needs_enough_calls():
    """Each stage is visited."""
    with pytest.raises(PartError, match="3 stages need as many calls at different times, but the sampler has 2"):
        EqualCost().find(Subject(schedule=VPLinear(), calls=lambda: [0.5, 0.1, 0.1]))


def two_points():
    """The optimal denoiser of -1 and 1 is tanh(x / ratio^2): E|error|^2 is known by quadrature."""
    return torch.tensor([[-1.0], [1.0]])


def two_point_error(ratio):
    z = torch.linspace(-12, 12, 20001, dtype=torch.float64)
    density = torch.exp(-z.square() / 2) / math.sqrt(2 * math.pi)
    return float(torch.trapezoid(density * (1 - torch.tanh((1 + ratio * z) / ratio**2)).square(), z))


@pytest.mark.parametrize("of", ["eps", "x0"])
def test_equal_error_shares_the_error(of):
    """On two points the edges are those of the error by quadrature, within their statistical error."""
    schedule = VPLinear()
    times = torch.linspace(1e-3, 1, 2001, dtype=torch.float64)
    ratios = schedule.ratio(times)
    errors = torch.tensor([two_point_error(float(ratio)) for ratio in ratios], dtype=torch.float64)
    if of == "eps":
        errors = errors / ratios.square()
    below = errors.cumsum(0) / errors.sum()
    expected = [float(times[(below >= share).nonzero()[0]]) for share in (1 / 3, 2 / 3)]
    found = EqualError(of=of, draws=40_000).find(subject(two_points(), pixels=False))
    assert found.edges_t == pytest.approx(expected, abs=0.01)


@pytest.mark.parametrize(
    ("clustering", "words"),
    [
        (EqualError(stages=5, draws=40), "40 draws are too few for 5 stages: set draws to at least 50"),
        (
            SimilarityMatrix(draws=150),
            "150 draws are too few for a time grid of 100 points.*set draws to at least 200, or points to at most 75",
        ),
    ],
)
def test_too_few_draws_say_how_many(clustering, words):
    """The error has the number that would do."""
    with pytest.raises(PartError, match=words):
        clustering.find(subject())


@pytest.mark.parametrize("name", ["optimal-denoiser", "similarity-matrix", "equal-error"])
def test_constant_images_are_refused(name):
    """Where all images are one there is no time at which anything changes."""
    with pytest.raises(PartError, match="all images are the same"):
        msdk.clusterings.get(name)().find(subject(few_images(1).repeat(20, 1)))


@pytest.mark.parametrize("strategy", [SimilarityMatrix(), EqualError()], ids=["similarity-matrix", "equal-error"])
@pytest.mark.parametrize(
    ("values", "pixels", "words"),
    [
        (few_images() / 255, True, "The pixels lie between 0 and 0.003922 only, where pixels = 0..1 means 0 to 1"),
        (few_images() / 100, False, "The data are latents from 0 to 2.55 with a standard deviation of 0.7"),
    ],
    ids=["pixels", "latents"],
)
def test_data_in_another_range_are_warned_of(strategy, values, pixels, words):
    """Settings are relative to a range; data of another one get a warning with what was measured."""
    (warning,) = strategy.find(subject(values, pixels=pixels)).warnings
    assert warning.startswith(words)


@pytest.mark.parametrize("strategy", [SimilarityMatrix(), EqualError(), OptimalDenoiser()])
def test_images_are_not_warned_of(strategy):
    """Images of 8 bits are what the settings mean."""
    assert strategy.find(subject()).warnings == ()
