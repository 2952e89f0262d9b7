"""Promises of metrics that need no outside numbers: closed forms, and what must hold for any features."""

import attrs
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import msdk
from msdk.extractors.base import Extracted
from msdk.metrics import frechet, neighbours
from msdk.metrics.base import Evidence
from msdk.metrics.diversity import Diversity
from msdk.metrics.fid import FID, FDDINOv2
from msdk.metrics.frechet import Moments, Sums, distance, moments_of
from msdk.metrics.kid import KID
from msdk.metrics.neighbours import nearest, precision_recall
from msdk.metrics.stage_losses import spread, stage_losses
from msdk.registry import registries
from msdk.testing.metrics import evidence


def cloud(count, width, seed=0, **options):
    return torch.randn(count, width, generator=torch.Generator().manual_seed(seed), dtype=torch.float64, **options)


def gaussian(mean, covariance):
    return Moments(np.asarray(mean, float), np.asarray(covariance, float), 10**6)


# --- Fréchet distances ------------------------------------------------------------------------------------------------


@given(st.lists(st.floats(0.01, 30), min_size=1, max_size=6), st.floats(-3, 3), st.floats(0.1, 10))
@settings(max_examples=50, deadline=None)
def test_gaussians_of_known_moments(variances, shift, scale):
    """Along one basis the distance is |m1 - m2|^2 + sum (s1 - s2)^2, however it is turned."""
    n = len(variances)
    turn = np.linalg.qr(np.random.RandomState(n).randn(n, n))[0]
    others = [scale * variance for variance in reversed(variances)]
    wanted = n * shift**2 + sum((a**0.5 - b**0.5) ** 2 for a, b in zip(variances, others, strict=True))
    a = gaussian(np.zeros(n), turn @ np.diag(variances) @ turn.T)
    b = gaussian(np.full(n, shift), turn @ np.diag(others) @ turn.T)
    size = max(sum(variances) + sum(others), 1)
    assert distance(a, b) == pytest.approx(wanted, rel=1e-9, abs=1e-11 * size)
    assert distance(b, a) == pytest.approx(distance(a, b), rel=1e-9, abs=1e-11 * size)
    assert distance(a, a) == pytest.approx(0, abs=1e-11 * size)


def test_a_covariance_may_be_singular():
    """Of a point the distance is the trace of the other; of few images the null space adds no roots of rounding."""
    assert distance(gaussian([0, 0], np.zeros((2, 2))), gaussian([3, 0], np.diag([4.0, 1.0]))) == pytest.approx(14)
    features = cloud(20, 64)
    assert distance(moments_of(features), moments_of(features)) <= 1e-11
    assert distance(moments_of(features), moments_of(2 * features)) == pytest.approx(
        float(features.mean(0).square().sum() + features.var(0).sum()), rel=1e-10
    )


def test_moments_come_in_blocks(monkeypatch):
    """In whichever blocks features come, also far from 0, mean and covariance are those of all of them."""
    monkeypatch.setattr(frechet, "BLOCK", 7)
    features = cloud(53, 5) + 1e4
    sums = Sums(5)
    for part in features.split(11):
        sums.add(part)
    for found in (sums.moments(), moments_of(features)):
        assert found.count == 53
        np.testing.assert_allclose(found.mean, features.numpy().mean(0), rtol=1e-14)
        np.testing.assert_allclose(found.covariance, np.cov(features.numpy(), rowvar=False), rtol=1e-9, atol=1e-11)


def test_few_and_equal_images_are_told():
    """A rank-deficient covariance and features without variance are said, and which side they are on."""
    shown = Evidence(generated=Extracted(cloud(4, 8)), reference=Extracted(torch.ones(30, 8)))
    notes = " ".join(FID().score(shown).notes)
    assert "4 generated images have a covariance of rank 3 at most for 8 features" in notes
    assert "the features of all real images are equal" in notes
    for equal in (cloud(1, 8).expand(30, 8), torch.full((30, 8), 0.1), torch.zeros(30, 8)):  # 0.1 is no sum of powers
        notes = FID().score(Evidence(generated=Extracted(equal), reference=Extracted(cloud(30, 8)))).notes
        assert notes == ("the features of all generated images are equal",)
    assert FID().score(evidence()).notes == ()


@pytest.mark.parametrize(
    ("metric", "extractor", "name"),
    [
        ("fid", msdk.extractors.get("inception")(), "FID"),
        ("fid", msdk.extractors.get("inception")(layer="64"), "FD-inception64"),
        ("fid", msdk.extractors.get("digits")(), "FD-digits"),
        ("fd-dinov2", FDDINOv2().own_extractor, "FD-DINOv2"),
        ("kid", msdk.extractors.get("digits")(), "KID-digits"),
        ("kid", msdk.extractors.get("inception")(), "KID"),
    ],
)
def test_only_inception_has_plain_names(metric, extractor, name):
    """No number by the digits' extractor, or by an inner layer, is ever called FID."""
    assert msdk.metrics.get(metric)().called(extractor) == name


# --- kernels ----------------------------------------------------------------------------------------------------------


def test_kid_of_like_sets_is_zero_within_its_error():
    """Sets of one law: 0 within the spread of its subsets; of another law: far above it."""
    one, other = cloud(1000, 16, 1), cloud(1000, 16, 2)
    metric = KID(subsets=20, subset_size=200)
    (same,) = metric.score(Evidence(generated=Extracted(one), reference=Extracted(other))).numbers
    assert abs(same.value) < 2 * same.std / 20**0.5
    (apart,) = metric.score(Evidence(generated=Extracted(one + 1), reference=Extracted(other))).numbers
    assert apart.value > 20 * same.std


def test_too_few_images_are_refused_in_words():
    """Before anything is drawn: how many there must be, and which setting says so."""
    for metric, few, words in (
        (KID(), (999, 5000), "subset_size"),
        (FID(), (1, 5000), "2 images or more"),
        (msdk.metrics.get("precision-recall")(), (50, 3), "more images than neighbours"),
        (msdk.metrics.get("is")(), (9, 0), "10 splits"),
        (Diversity(), (50, 1), "2 images or more"),
    ):
        with pytest.raises(msdk.PartError, match=words):
            metric.check(*few)
        metric.check(5000, 5000)


# --- neighbours -------------------------------------------------------------------------------------------------------


@given(st.integers(2, 25), st.integers(4, 25), st.integers(1, 3), st.integers(0, 10**6))
@settings(max_examples=40, deadline=None)
def test_blocks_change_nothing(first, second, k, seed):
    """Precision, recall and neighbours are those of all distances at once, in blocks that divide nothing evenly."""
    x, y = cloud(first + 4, 3, seed), cloud(second, 3, seed + 1) + 0.5
    far, near = torch.cdist(x, y), [torch.cdist(each, each).kthvalue(k + 1).values for each in (x, y)]
    wanted = (far <= near[1]).any(1).double().mean(), (far <= near[0][:, None]).any(0).double().mean()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(neighbours, "BLOCK", 6)
        assert precision_recall(x, y, k) == pytest.approx([float(each) for each in wanted])
        apart = torch.cdist(x, x).fill_diagonal_(torch.inf).topk(k, largest=False).values.square()
        torch.testing.assert_close(nearest(x, k), apart, rtol=1e-9, atol=1e-12)


def test_precision_and_recall_of_nested_sets():
    """A part of the real images has precision 1; images that hold all real ones have recall 1; far ones neither."""
    real = cloud(60, 5) * 3
    precision, recall = precision_recall(real[:20], real, 3)
    assert precision == 1
    assert recall < 1
    assert precision_recall(torch.cat([real, cloud(30, 5, 3)]), real, 3)[1] == 1
    assert precision_recall(real, real, 3) == (1, 1)
    assert precision_recall(real + 1e4, real, 3) == (0, 0)
    twins = real.repeat(5, 1)  # balls of no width still hold their centres
    assert precision_recall(twins, twins.flip(0), 3) == (1, 1)


def test_diversity_sees_copies_and_duplicates():
    """Repeated real images are copies, repeated generated ones duplicates, and fresh ones neither."""
    real, fresh = cloud(400, 8, 1), cloud(100, 8, 2)

    def found(generated):
        shown = Evidence(generated=Extracted(generated), reference=Extracted(real))
        return {number.name: number.value for number in Diversity().score(shown).numbers}

    good, copied, doubled = found(fresh), found(real[:100]), found(fresh[:50].repeat(2, 1))
    assert 0.9 < good["novelty"] < 1.1
    assert (good["copies"], good["duplicates"]) == (0, 0)
    assert (copied["novelty"], copied["copies"]) == (pytest.approx(0, abs=1e-6), 1)
    assert (doubled["copies"], doubled["duplicates"]) == (0, 1)


# --- the loss ---------------------------------------------------------------------------------------------------------


def test_times_are_spread_over_their_stage():
    """One in the middle of each of as many equal parts of the stage's law."""
    shown = evidence()
    recipe, denoiser = shown.recipe, shown.denoiser
    law, schedule, partition = recipe.training.noise, denoiser.schedule, denoiser.partition
    edges = law.edges(schedule, partition)
    for stage in range(len(partition)):
        times = spread(recipe, denoiser, stage, 40)
        assert partition.at(times, schedule).tolist() == [stage] * 40
        places = torch.tensor([law.cdf(schedule, t) for t in times.tolist()])
        parts = (places - edges[stage]) / (edges[stage + 1] - edges[stage]) * 40
        torch.testing.assert_close(parts, torch.arange(40) + 0.5, rtol=1e-5, atol=1e-5)


def test_an_image_has_its_own_noise_in_any_batch():
    """The batch changes no number, an image's content does; and numbers are in the order of the stages."""
    shown = evidence()
    ask = {"denoiser": shown.denoiser, "recipe": shown.recipe, "real": shown.real}
    one = stage_losses(**ask, hashes=shown.hashes, batch_size=64)
    assert one == pytest.approx(stage_losses(**ask, hashes=shown.hashes, batch_size=5), rel=1e-5)
    assert one != pytest.approx(stage_losses(**ask, hashes=range(1, 13), batch_size=64), rel=1e-5)
    found = msdk.metrics.get("denoising-loss")().score(shown).numbers
    assert [number.value for number in found[1:]] == list(one.values())
    shares = shown.recipe.natural_shares(shown.denoiser.partition)
    assert found[0].value == pytest.approx(sum(a * b for a, b in zip(shares, one.values(), strict=True)))


def test_every_metric_says_what_it_reads():
    """Names are those of the kinds of evidence."""
    metrics = registries()["metrics"]
    assert {metrics.get(name).reads for name in metrics.own_names()} == {"features", "moments", "logits", "denoiser"}
    assert attrs.has(Evidence)
