"""Where the optimal denoiser changes: Algorithm 1, the similarity matrix, and the paper's Table 4."""

import attrs
import pytest
import torch
from subjects import subject

import msdk
from msdk.clustering.points import DataPoints
from msdk.clusterings import denoising
from msdk.clusterings.base import Subject
from msdk.clusterings.optimal_denoiser import OptimalDenoiser
from msdk.clusterings.similarity_matrix import SimilarityMatrix, _alike
from msdk.errors import PartError
from msdk.schedules.vp import VPLinear
from msdk.testing.clusterings import few_images


def compared(draws, seed=0, **settings):
    return OptimalDenoiser(draws=draws, **settings).compared(subject(seed=seed))


def by_hand(drawn_times, clustering, seed):
    """Eq. 5 for every triple, one at a time in float64, from the same draws."""
    schedule, data = VPLinear(), few_images().double() / 255
    picks = torch.randint(len(data), (clustering.draws,), generator=denoising._generator(seed, 0))
    rows = []
    for row, t in enumerate(drawn_times.tolist()):
        clean, noise = data[picks[row]], denoising._noise(seed, row, data.shape[1]).double()

        def predicted(x, ratio):
            weights = (-(x - data).square().sum(1) / (2 * ratio**2)).softmax(0)
            return (x - weights @ data) / ratio

        ratio, last = schedule.ratio(t), schedule.ratio(1.0)
        at_t = predicted(clean + ratio * noise, ratio)
        if clustering.reference == "limit":
            at_last = (clean + ratio * noise - data.mean(0)) / ratio
        else:
            at_last = predicted(clean + last * noise, last)
        rows.append(
            [
                float(((at_t - noise).abs() <= clustering.eta).double().mean()),
                float(((at_t - at_last).abs() <= clustering.eta).double().mean()),
            ]
        )
    return torch.tensor(rows, dtype=torch.float64).T


@pytest.mark.parametrize("reference", ["limit", "literal"])
def test_similarities_are_equation_5(reference):
    """Both readings of the reference at t = 1, as written out; rounding may move a pixel over the threshold."""
    clustering = OptimalDenoiser(draws=80, reference=reference)
    found = clustering.compared(subject(seed=3))
    expected = by_hand(found.times, clustering, 3)
    torch.testing.assert_close(torch.stack([found.to_clean, found.to_noise]), expected, rtol=0, atol=2.01 / (3 * 8 * 8))


def test_the_edges_are_algorithm_1():
    """t1 is the last time up to which the mean similarity to the clean denoiser reaches alpha; t2 mirrors it."""
    clustering = OptimalDenoiser(draws=400)
    drawn, found = clustering.compared(subject()), clustering.find(subject())
    times = drawn.times.tolist()
    first = [t for n, t in enumerate(times, 1) if float(drawn.to_clean[:n].mean()) >= clustering.alpha]
    second = [t for n, t in enumerate(times) if float(drawn.to_noise[n:].mean()) >= clustering.alpha]
    assert found.edges_t == (max(first), min(second))


@pytest.mark.parametrize(("length", "numbers", "pieces"), [(1, 2**24, 256), (11, 192 * 9, 4), (60, 192, 1)])
@pytest.mark.parametrize("name", ["optimal-denoiser", "similarity-matrix"])
def test_blocks_change_nothing(name, length, numbers, pieces, monkeypatch):
    """Blocks of data, of draws and of comparisons bound the memory and move no edge."""
    clustering = attrs.evolve(msdk.clusterings.get(name)(draws=300), **({"points": 30} if "m" in name[:3] else {}))
    whole = clustering.find(subject())
    monkeypatch.setattr(denoising, "NUMBERS", numbers)
    monkeypatch.setattr(denoising, "COMPARED", pieces)
    assert clustering.find(subject(length=length)).edges_t == pytest.approx(whole.edges_t, abs=1e-6)


def test_similarity_runs_from_the_data_to_the_noise():
    """The optimal denoiser is that of clean data near t = 0 and of pure noise near t_max, in every pixel."""
    found = compared(200)
    assert found.times.tolist() == sorted(found.times.tolist())
    assert bool((found.times >= 1e-3).all())
    assert (found.to_clean[0], found.to_noise[-1]) == (1, 1)
    assert found.to_clean.min() < 0.5
    assert found.to_noise[0] < 0.5


def test_the_error_of_the_optimal_denoiser():
    """Nothing near the data, the variance near pure noise, and with the signal the variance everywhere between."""
    found = compared(2000)
    variance = (few_images().double() / 255).var(0, correction=0).mean()
    early, late = found.times < 0.05, found.times > 0.98
    assert found.error[early].max() < 1e-6
    torch.testing.assert_close(found.signal[early].mean(), variance, rtol=0.05, atol=0)
    torch.testing.assert_close(found.error[late].mean(), variance, rtol=0.05, atol=0)
    assert found.signal[late].max() < 0.02 * variance
    middle = (found.times > 0.27) & (found.times < 0.42)
    assert 0.2 * variance < found.signal[middle].mean() < 0.8 * variance
    torch.testing.assert_close((found.error + found.signal)[middle].mean(), variance, rtol=0.05, atol=0)


def test_the_seed_decides():
    """Another seed draws other triples."""
    assert OptimalDenoiser().find(subject(seed=1)) != OptimalDenoiser().find(subject())


def test_intervals_cover_other_seeds():
    """Of edges found from other draws, nearly all lie in the interval about their mean that one seed gives."""
    clustering = OptimalDenoiser(draws=300)
    found = [clustering.find(subject(seed=seed)) for seed in range(20)]
    for edge in (0, 1):
        centre = sum(one.edges_t[edge] for one in found) / len(found)
        covered = sum(one.intervals_t[edge][0] <= centre <= one.intervals_t[edge][1] for one in found)
        assert covered >= 16
        widths = [one.intervals_t[edge][1] - one.intervals_t[edge][0] for one in found]
        assert max(widths) < 0.2


def test_other_numbers_of_stages_are_cut_by_the_matrix():
    """Algorithm 1 makes three stages; any other number comes from the similarity matrix with the same settings."""
    found = OptimalDenoiser(stages=4, draws=500, eta=0.02).find(subject())
    assert found == SimilarityMatrix(stages=4, draws=500, eta=0.02).find(subject())


def test_similarity_of_each_two_times():
    """S(t, t') is the share of numbers that differ by at most eta: symmetric, 1 on the diagonal."""
    excess = torch.randn(9, 50, generator=torch.Generator().manual_seed(0))
    expected = [[float(((one - other).abs() <= 0.5).double().mean()) for other in excess] for one in excess]
    assert _alike(excess, 0.5).tolist() == pytest.approx(torch.tensor(expected).numpy())


def test_progress_reaches_all_blocks(monkeypatch):
    """Progress is told after every block of every pass, and ends at the total."""
    monkeypatch.setattr(denoising, "NUMBERS", 192 * 20)
    told = []
    OptimalDenoiser(draws=50).compared(subject(length=30, progress=lambda *counts: told.append(counts)))
    assert told == [(done, 6) for done in range(1, 7)]


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
        OptimalDenoiser(**setting).find(subject())


def test_errors_name_a_range_that_is_not_meant():
    """Where no edges are found in data of another range than the settings mean, that is the likely cause."""
    with pytest.raises(PartError, match=r"leave no stage .* The pixels lie between 0 and 0\.0039"):
        OptimalDenoiser().find(subject(few_images() / 255))


@pytest.fixture(scope="module")
def cifar(outside_data):
    return outside_data / "data" / "cifar10-train-jpeg.zip"


@pytest.mark.golden
@pytest.mark.slow
def test_table_4(cifar):
    """The paper's edges by time, by SNR, and by the optimal denoiser of 50,000 images: two seeds, and their mean."""
    points = DataPoints(msdk.datasets.get("zip")(path=cifar, size=32).open(), (3, 32, 32))
    assert points.count == 50_000

    def found(clustering, seed=0):
        return clustering.find(Subject(schedule=VPLinear(), points=lambda: points, seed=seed)).edges_t

    assert found(msdk.clusterings.get("timestep")()) == pytest.approx((0.334, 0.667), abs=1e-9)
    assert found(msdk.clusterings.get("snr")()) == pytest.approx((0.348, 0.709), abs=1e-9)
    edges = [found(OptimalDenoiser(), seed) for seed in (0, 1)]
    for each in edges:
        assert each == pytest.approx((0.442, 0.631), abs=0.020)
    assert [sum(each) / 2 for each in zip(*edges, strict=True)] == pytest.approx((0.442, 0.631), abs=0.010)
