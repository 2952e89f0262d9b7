"""Strategies that cut time: published edges, exact optimality of the cut, and the optimal denoiser itself."""

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import msdk
from msdk.clusterings import optimal_denoiser
from msdk.clusterings.optimal_denoiser import OptimalDenoiser, posterior_mean
from msdk.clusterings.segmentation import segment_by_middle
from msdk.clusterings.snr import SNR
from msdk.clusterings.timestep import Timestep
from msdk.errors import PartError
from msdk.schedules.vp import VPLinear

every_clustering = pytest.mark.parametrize(
    "clustering", [msdk.clusterings.get(name)() for name in msdk.clusterings.names()]
)


def few_images():
    return torch.randint(0, 256, (60, 3, 8, 8), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)


def no_images():
    pytest.fail("a strategy that looks at no data asked for images")


def find(clustering, schedule, images=few_images, seed=0):
    return clustering.find(schedule, images, seed=seed, device="cpu", progress=lambda done, total: None)


def compared(clustering, seed=0):
    return clustering.compared(VPLinear(), few_images(), seed=seed, device="cpu", progress=lambda done, total: None)


@every_clustering
def test_edges_ascend_inside_the_schedule(clustering):
    """Every strategy gives one edge fewer than it has stages, ascending between t_min and t_max, the same each time."""
    schedule = VPLinear()
    images = few_images if clustering.looks_at_data else no_images
    found = find(clustering, schedule, images)
    bounds = [schedule.t_min, *found.edges_t, schedule.t_max]
    assert all(low < high for low, high in itertools.pairwise(bounds))
    assert len(found.edges_t) == clustering.stages - 1
    assert find(clustering, schedule, images) == found


def test_the_papers_timestep_and_snr_edges():
    """On 1000 points of vp-linear: 0.334 / 0.667 by time and 0.348 / 0.709 by SNR, exactly points of the grid."""
    assert find(Timestep(), VPLinear()).edges_t == (334 / 1000, 667 / 1000)
    assert find(SNR(), VPLinear()).edges_t == (348 / 1000, 709 / 1000)


@pytest.mark.parametrize("stages", [2, 4, 5])
def test_any_number_of_stages(stages):
    """The number of stages is a setting."""
    assert len(find(SNR(stages=stages), VPLinear()).edges_t) == stages - 1


def best_cuts(values, segments):
    """All cuts tried: the cheapest, and of equals the one with the smallest starts, counted from the last segment."""
    n = len(values)
    shortest, longest = n // (2 * segments), -(-3 * n // (2 * segments))

    def cost(start, end):
        return sum(abs(value - values[start + (end - start) // 2]) for value in values[start:end])

    candidates = []
    for cuts in itertools.combinations(range(1, n), segments - 1):
        pieces = list(itertools.pairwise((0, *cuts, n)))
        if all(shortest <= end - start <= longest for start, end in pieces):
            candidates.append((sum(cost(*piece) for piece in pieces), cuts[::-1]))
    return list(min(candidates)[1][::-1])


@settings(derandomize=True, deadline=None, max_examples=60)
@given(st.lists(st.integers(-50, 50), min_size=8, max_size=13).map(sorted), st.integers(1, 4), st.booleans())
def test_the_cut_is_the_best_of_all(values, segments, falling):
    """Dynamic programming finds what trying every cut finds, ties included, for rising and falling values."""
    values = values[::-1] if falling else values
    assert segment_by_middle(torch.tensor(values, dtype=torch.float64), segments) == best_cuts(values, segments)


def test_a_grid_that_is_too_coarse_says_how_fine_it_must_be():
    """Each stage needs two points."""
    with pytest.raises(PartError, match="5 stages need a time grid of at least 10 points, got 9"):
        find(Timestep(stages=5, points=9), VPLinear())


@pytest.fixture
def cloud():
    """Noisy points, their ratios, the data and a centre that is near the mean but not it."""
    generator = torch.Generator().manual_seed(0)
    data = torch.rand(40, 6, generator=generator, dtype=torch.float64)
    ratio = torch.logspace(-1.5, 1, 25, dtype=torch.float64)
    noisy = data[:25] + ratio[:, None] * torch.randn(25, 6, generator=generator, dtype=torch.float64)
    return noisy, ratio, data, data.mean(0) + 0.01


def direct(noisy, ratio, data):
    logits = -(noisy[:, None] - data).square().sum(2) / (2 * ratio[:, None] ** 2)
    return logits.softmax(1) @ data


def test_posterior_mean_is_the_formula(cloud):
    """The streamed sum equals Proposition 1 written out, to 1e-10."""
    noisy, ratio, data, centre = cloud
    torch.testing.assert_close(
        posterior_mean(noisy, ratio, data, centre), direct(noisy, ratio, data), rtol=0, atol=1e-10
    )


@pytest.mark.parametrize("block", [1, 7, 39, 40])
def test_posterior_mean_does_not_depend_on_the_blocks(cloud, monkeypatch, block):
    """However the data are split, the mean over them is the same."""
    noisy, ratio, data, centre = cloud
    monkeypatch.setattr(optimal_denoiser, "DATA_BLOCK", block)
    torch.testing.assert_close(
        posterior_mean(noisy, ratio, data, centre), direct(noisy, ratio, data), rtol=0, atol=1e-10
    )


def test_posterior_mean_between_its_limits(cloud):
    """Little noise leaves the nearest point, much noise the mean of the data, without overflow."""
    noisy, ratio, data, centre = cloud
    nearest = data[torch.cdist(noisy, data).argmin(1)]
    tiny, huge = torch.full_like(ratio, 1e-8), torch.full_like(ratio, 1e8)
    torch.testing.assert_close(posterior_mean(noisy, tiny, data, centre), nearest, rtol=0, atol=1e-12)
    mean = data.mean(0).expand_as(noisy)
    torch.testing.assert_close(posterior_mean(noisy, huge, data, centre), mean, rtol=0, atol=1e-12)


def test_similarities_do_not_depend_on_the_blocks(monkeypatch):
    """Blocks of draws bound the memory and nothing else; rounding may move one pixel over the threshold."""

    def similarities():
        found = compared(OptimalDenoiser(draws=50), seed=3)
        return found.times, found.to_clean, found.to_noise, found.error, found.signal

    whole = similarities()
    monkeypatch.setattr(optimal_denoiser, "DRAW_BLOCK", 7)
    monkeypatch.setattr(optimal_denoiser, "DATA_BLOCK", 11)
    torch.testing.assert_close(similarities(), whole, rtol=0, atol=1.01 / (3 * 8 * 8))


def test_similarity_runs_from_the_data_to_the_noise():
    """The optimal denoiser is that of clean data near t = 0 and of pure noise near t_max, in every pixel."""
    found = compared(OptimalDenoiser(draws=200))
    assert found.times.tolist() == sorted(found.times.tolist())
    assert bool((found.times >= 1e-3).all())
    assert (found.to_clean[0], found.to_noise[-1]) == (1, 1)
    assert found.to_clean.min() < 0.5
    assert found.to_noise[0] < 0.5


def test_the_error_of_the_optimal_denoiser():
    """Nothing near the data, the variance near pure noise, and with the signal the variance everywhere between."""
    images = few_images()
    found = compared(OptimalDenoiser(draws=2000))
    pixels = images.flatten(1).double() / 255
    variance = pixels.var(0, correction=0).mean()
    early, late = found.times < 0.05, found.times > 0.98
    assert found.error[early].max() < 1e-6
    torch.testing.assert_close(found.signal[early].mean(), variance, rtol=0.05, atol=0)
    torch.testing.assert_close(found.error[late].mean(), variance, rtol=0.05, atol=0)
    assert found.signal[late].max() < 0.02 * variance
    middle = (found.times > 0.35) & (found.times < 0.5)
    assert 0.2 * variance < found.signal[middle].mean() < 0.8 * variance
    torch.testing.assert_close((found.error + found.signal)[middle].mean(), variance, rtol=0.05, atol=0)


def test_curves_are_of_the_times_drawn():
    """Every curve of an artefact has a value for each time, the errors among them."""
    curves = find(OptimalDenoiser(draws=30), VPLinear()).curves
    assert {"t", "to_clean", "to_noise", "from_clean", "from_noise", "error", "signal"} == set(curves)
    assert {len(values) for values in curves.values()} == {30}


def test_the_seed_decides():
    """Another seed draws other triples."""
    assert find(OptimalDenoiser(), VPLinear(), seed=1) != find(OptimalDenoiser(), VPLinear())


def test_progress_reaches_all_draws(monkeypatch):
    """Progress is told after every block, and ends at the total."""
    monkeypatch.setattr(optimal_denoiser, "DRAW_BLOCK", 20)
    told = []
    OptimalDenoiser(draws=50).find(
        VPLinear(), few_images, seed=0, device="cpu", progress=lambda *counts: told.append(counts)
    )
    assert told == [(20, 50), (40, 50), (50, 50)]


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ({"eta": 1e-9}, r"no first edge: the mean similarity reaches at most 0\.\d+, below alpha = 0\.9\. Lower alpha"),
        (
            {"eta": 1e-9, "alpha": 0.5},
            r"no second edge: the mean similarity reaches at most 0\.\d+, below alpha = 0\.5",
        ),
        ({"eta": 100.0}, r"the edges t = .* leave no stage between or outside them: raise alpha = 0\.9 or lower eta"),
    ],
)
def test_settings_that_allow_no_edges_say_what_would(setting, words):
    """Too strict or too lax a similarity is an error with the numbers and the remedy."""
    with pytest.raises(PartError, match=words):
        find(OptimalDenoiser(**setting), VPLinear())


@pytest.mark.golden
@pytest.mark.slow
def test_the_papers_edges_on_cifar10(outside_data):
    """On CIFAR-10's 50,000 training images the edges are the paper's 0.442 and 0.631, within 0.02."""
    path = outside_data / "data" / "cifar10-train-jpeg.zip"
    source = msdk.datasets.get("zip")(path=path, size=32).open()
    assert len(source) == 50_000
    found = find(OptimalDenoiser(draws=3000), VPLinear(), lambda: source.read(range(len(source))))
    assert found.edges_t == pytest.approx((0.442, 0.631), abs=0.02)
