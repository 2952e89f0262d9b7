"""E[x_0 | x_t] of a finite data set: the formula, its limits, and all that it must not depend on."""

import math
import threading

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils._python_dispatch import TorchDispatchMode

from msdk.clusterings import posterior as module
from msdk.clusterings.posterior import Scaled, posterior
from msdk.distributed import Group, Rank
from msdk.errors import PartError
from msdk.testing.clusterings import PointsInMemory, few_images


def case(count=40, size=6, pairs=25, times=1, seed=0, *, length=7):
    """Points, pairs (x_0, eps) and ratios over three decades; float64, so that rounding hides nothing."""
    generator = torch.Generator().manual_seed(seed)
    data = torch.rand(count, size, generator=generator, dtype=torch.float64)
    clean = data[torch.randint(count, (pairs,), generator=generator)]
    noise = torch.randn(pairs, size, generator=generator, dtype=torch.float64)
    ratios = 10 ** (3 * torch.rand(pairs, times, generator=generator, dtype=torch.float64) - 2)
    return PointsInMemory(data, length=length, pixels=False), clean, noise, ratios


def direct(points, clean, noise, ratios):
    """Proposition 1, written out."""
    noisy = clean[:, None] + ratios[..., None] * noise[:, None]
    distance = (noisy[:, :, None] - points.values).square().sum(3)
    return (-distance / (2 * ratios[..., None] ** 2)).softmax(2) @ points.values


def found(points, clean, noise, ratios, **other):
    return posterior(Scaled(points, "0..1"), clean, noise, ratios, **other)


def close(one, other, atol=1e-10):
    torch.testing.assert_close(one, other, rtol=0, atol=atol)


@settings(derandomize=True, deadline=None, max_examples=60)
@given(
    st.integers(1, 40), st.integers(1, 9), st.integers(1, 12), st.integers(1, 4), st.integers(0, 99), st.integers(1, 45)
)
def test_it_is_the_formula(count, size, pairs, times, seed, length):
    """The streamed sum equals Proposition 1 written out, to 1e-10, whatever the blocks are."""
    drawn = case(count, size, pairs, times, seed, length=length)
    close(found(*drawn).mean, direct(*drawn))


@settings(derandomize=True, deadline=None, max_examples=20)
@given(st.integers(1, 3), st.integers(0, 99))
def test_shared_products_change_nothing(times, seed):
    """All ratios of a pair at once give what one at a time gives."""
    points, clean, noise, ratios = case(times=times, seed=seed)
    together = found(points, clean, noise, ratios).mean
    alone = [found(points, clean, noise, ratios[:, [k]]).mean for k in range(times)]
    close(together, torch.cat(alone, 1))


def test_its_limits():
    """Little noise leaves the nearest point, much noise the mean of the data, without overflow."""
    points, clean, noise, ratios = case()
    close(found(points, clean, noise, torch.full_like(ratios, 1e-8)).mean[:, 0], clean, 1e-12)
    mean = points.values.mean(0).expand_as(clean)
    close(found(points, clean, noise, torch.full_like(ratios, 1e8)).mean[:, 0], mean, 1e-6)


def test_it_knows_the_data():
    """Mean, variance and range come from the same reading."""
    drawn = case()
    result, data = found(*drawn), drawn[0].values
    close(result.data_mean, data.mean(0))
    assert result.variance == pytest.approx(float(data.var(0, correction=0).mean()))
    assert (result.low, result.high) == (float(data.min()), float(data.max()))


def test_it_does_not_depend_on_the_order():
    """The data are a set."""
    points, clean, noise, ratios = case()
    shuffled = points.values[torch.randperm(points.count, generator=torch.Generator().manual_seed(1))]
    other = PointsInMemory(shuffled, length=9, pixels=False)
    close(found(other, clean, noise, ratios).mean, found(points, clean, noise, ratios).mean)


def test_blocks_without_weight_are_skipped(monkeypatch):
    """Rows that a block adds nothing to take no part in its second product, and lose nothing by it."""
    points, clean, noise, _ = case(count=200, size=64, pairs=40, length=20)
    ratios = torch.linspace(0.02, 0.3, 40, dtype=torch.float64)[:, None]
    rows = []
    add = module.Sums.add

    def counted(self, block):
        before = self.norm.clone()
        add(self, block)
        rows.append(int((self.norm != before).sum()))

    monkeypatch.setattr(module.Sums, "add", counted)
    skipping = found(points, clean, noise, ratios).mean
    assert sum(rows) < 0.6 * 40 * 10
    rows.clear()
    monkeypatch.setattr(module, "NEGLIGIBLE", math.inf)
    close(found(points, clean, noise, ratios).mean, skipping, 1e-12)
    close(skipping, direct(points, clean, noise, ratios))


class Subnormals(TorchDispatchMode):
    """Counts the products seen, and those that subnormal numbers go into or come out of."""

    def __init__(self):
        super().__init__()
        self.products = self.slow = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        if func.overloadpacket.__name__ in ("mm", "addmm", "mul", "mul_", "addcmul", "addcmul_"):
            self.products += 1
            self.slow += any(
                bool(((each != 0) & (each.abs() < torch.finfo(each.dtype).tiny)).any())
                for each in (*args, result)
                if isinstance(each, torch.Tensor) and each.is_floating_point()
            )
        return result


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("times", [1, 2])
def test_no_product_meets_subnormal_numbers(dtype, times):
    """What is negligible is an exact zero, at every distance: a product with subnormal numbers is 100 times slower."""
    # Squared distances over ratio^2 that pass through the logarithms of all subnormal numbers, in both types.
    line = torch.arange(0, 60, 0.05, dtype=dtype)[:, None]
    points = PointsInMemory(line, length=1000, pixels=False)
    clean, noise = line[::50], torch.full((24, 1), 0.25, dtype=dtype)
    ratios = torch.linspace(0.8, 1.2, 24 * times, dtype=torch.float64).view(24, times)
    with Subnormals() as seen:
        found(points, clean, noise, ratios)
    assert seen.products >= 4  # two for each block
    assert not seen.slow


class Threads(Group):
    """Ranks as threads of one process, which meet at a barrier."""

    def __init__(self, index, count, meeting, given):
        super().__init__(Rank(index, count))
        self.meeting, self.given = meeting, given

    def _reduced(self, values, operation):
        self.given[self.rank.index] = values.clone()
        self.meeting.wait()
        every = torch.stack(self.given)
        self.meeting.wait()
        return every.sum(0) if operation == "SUM" else every.amax(0)


@pytest.mark.parametrize("count", [2, 3])
def test_ranks_merge_exactly(count):
    """However many processes share the blocks, the mean and what is known of the data are the same."""
    drawn = case(times=2)
    meeting, given, results = threading.Barrier(count), [None] * count, [None] * count

    def work(index):
        results[index] = found(*drawn, group=Threads(index, count, meeting, given))

    workers = [threading.Thread(target=work, args=(index,)) for index in range(count)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    alone = found(*drawn)
    for result in results:
        close(result.mean, alone.mean, 1e-13)
        close(result.data_mean, alone.data_mean, 1e-13)
        assert (result.low, result.high) == (alone.low, alone.high)
        assert result.variance == pytest.approx(alone.variance, rel=1e-13)


def test_float32_products_are_exact_enough():
    """On images in float32 the mean is that of float64 to a hundredth of the threshold that pixels are compared by."""
    values = few_images(400)
    points = PointsInMemory(values, length=64)
    generator = torch.Generator().manual_seed(0)
    clean = values[:50] / 255
    noise = torch.randn(clean.shape, generator=generator)
    ratios = torch.logspace(-2, 1.5, 50, dtype=torch.float64)[:, None]
    streamed = found(points, clean, noise, ratios)
    exact = direct(PointsInMemory(values.double() / 255), clean.double(), noise.double(), ratios)
    assert float(((streamed.mean - exact) / ratios[..., None]).abs().max()) < 2 / 256 / 100


def test_progress_is_told_after_each_block():
    """Blocks read, and blocks in all."""
    told = []
    found(*case(), progress=lambda *counts: told.append(counts))
    assert told == [(done, 6) for done in range(1, 7)]


@pytest.mark.parametrize("bad", [math.nan, math.inf])
@pytest.mark.parametrize(("pixels", "words"), [(True, "images"), (False, "latents")])
def test_numbers_that_are_not_finite_are_refused(bad, pixels, words):
    """One NaN in the data would make every mean NaN."""
    points, clean, noise, ratios = case()
    points.values[17, 2] = bad
    points.pixels = pixels
    with pytest.raises(PartError, match=f"the {words} hold numbers that are not finite"):
        found(points, clean, noise, ratios)


def test_pixels_are_scaled_and_latents_are_not():
    """0 .. 255 becomes the range of the settings."""
    raw = few_images(5)
    points = PointsInMemory(raw)
    assert torch.equal(Scaled(points, "0..1")(raw), raw / 255)
    assert torch.equal(Scaled(points, "-1..1")(raw), raw / 127.5 - 1)
    points.pixels = False
    assert torch.equal(Scaled(points, "-1..1")(raw), raw)
