"""Where curves cross, and how often their intervals hold the truth."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from msdk.studies.crossing import Curves, cross, first_at
from msdk.studies.results import Comparison, Interval
from msdk.studies.verdicts import judged, verdict_of

SPENT = np.geomspace(1.0, 100.0, 25)


def falling(level, scale, spent=SPENT):
    """A power law, as losses fall with what is spent."""
    return level + scale * spent**-0.5


def drawn(generator, seeds, ours, theirs, noise=0.004, shared=0.004, spent=SPENT):
    """Curves of an arm and its baseline: each seed lies apart, partly by the same in both, with noise at each look."""
    both = generator.normal(0, shared, (seeds, 1))

    def one(curve):
        own = generator.normal(0, noise, (seeds, 1)) + generator.normal(0, noise / 10, (seeds, len(spent)))
        return Curves(spent, curve + both + own)

    return one(ours), one(theirs)


@pytest.mark.parametrize("seeds", [3, 8])
def test_intervals_hold_the_truth_as_often_as_they_say(seeds):
    """Of 1,000 studies with a known crossing, 95 % intervals hold it in 95 % but for 3 points, with three seeds too."""
    ours, theirs = falling(0.3, 0.5), falling(0.3, 0.7)
    # Where 0.5 / sqrt(x) is what 0.7 / sqrt(100) is; the ratio to 100.
    truth = 100 * (0.5 / 0.7) ** 2
    generator = np.random.default_rng(1)
    held, apart = 0, 0
    for number in range(1000):
        found = cross(*drawn(generator, seeds, ours, theirs), resamples=400, seed=number)
        held += found.crossing.low <= truth <= found.crossing.high
        apart += found.difference.low <= (0.5 - 0.7) / 10 <= found.difference.high
    assert abs(held / 1000 - 0.95) <= 0.03
    assert abs(apart / 1000 - 0.95) <= 0.03


def test_nothing_crosses_where_curves_do_not():
    """An arm that stays above by much never reaches the other: no crossing, no end of the interval, and it is told."""
    found = cross(*drawn(np.random.default_rng(0), 5, falling(0.5, 0.7), falling(0.3, 0.7)))
    assert (found.crossing.value, found.crossing.high, found.ratio.value) == (math.inf,) * 3
    assert found.reached < 0.05
    assert found.at_least == pytest.approx(1, abs=0.02)
    assert found.difference.low > 0.1


@pytest.mark.parametrize(("share", "wanted"), [(1.02, "worse"), (0.98, "worse"), (0.5, "unknown")])
def test_who_ends_half_a_look_early_and_behind_is_worse(share, wanted):
    """Equal FLOPs are equal up to half a look, which decides nothing; half the FLOPs are too few to say."""
    generator = np.random.default_rng(3)
    ours, theirs = drawn(generator, 3, falling(0.31, 0.7), falling(0.3, 0.7), noise=0.0005)
    assert judged(cross(Curves(ours.spent * share, ours.quality), theirs)) == wanted


def test_one_lucky_resample_decides_nothing():
    """An arm that ends early and gets there in fewer resamples than the interval leaves out is unknown, not alike."""
    generator = np.random.default_rng(0)
    found = [
        cross(Curves(ours.spent * 0.9, ours.quality), theirs)
        for ours, theirs in (
            drawn(generator, 3, falling(0.318, 0.7), falling(0.3, 0.7), noise=0.004) for _ in range(40)
        )
    ]
    lucky = [each for each in found if 0 < each.reached < 0.02]
    assert lucky
    assert {judged(each) for each in lucky} == {"unknown"}


def test_seeds_are_paired():
    """What the seeds of both arms have in common takes nothing from the certainty: pairing them wrongly does."""
    ours, theirs = drawn(np.random.default_rng(2), 6, falling(0.3, 0.5), falling(0.3, 0.7), noise=0.001, shared=0.02)
    paired = cross(ours, theirs)
    mixed = cross(Curves(ours.spent, np.roll(ours.quality, 1, 0)), theirs)
    assert paired.ratio.high - paired.ratio.low < 0.5 * (mixed.ratio.high - mixed.ratio.low)


def test_a_single_number_has_the_t_interval():
    """At one look, the interval of the difference is Student's for the paired differences."""
    ours, theirs = np.array([[1.0], [1.4], [1.1]]), np.array([[2.0], [2.1], [2.6]])
    found = cross(Curves(np.ones(1), ours), Curves(np.ones(1), theirs), resamples=400_000)
    apart = (ours - theirs)[:, 0]
    half = 4.302653 * apart.std(ddof=1) / math.sqrt(3)  # Student's, 2 degrees of freedom, 97.5 %
    assert found.difference.value == pytest.approx(apart.mean())
    assert found.difference.low == pytest.approx(apart.mean() - half, abs=0.02)
    assert found.difference.high == pytest.approx(apart.mean() + half, abs=0.02)


def test_overfitting_is_not_held_against_who_keeps_the_best():
    """A baseline that was at its best and rose again is to be reached at its best, unless the final one is meant."""
    theirs = np.tile(np.concatenate([np.linspace(1.0, 0.4, 13), np.linspace(0.4, 0.6, 12)]), (3, 1))
    ours = np.tile(np.linspace(1.0, 0.3, 25), (3, 1))
    best, final = (cross(Curves(SPENT, ours), Curves(SPENT, theirs), target=which) for which in ("best", "final"))
    assert (best.target, final.target) == (pytest.approx(0.4), pytest.approx(0.6))
    assert best.other == pytest.approx(SPENT[12])
    assert best.crossing.value > final.crossing.value


@given(st.lists(st.floats(0.01, 10), min_size=2, max_size=20), st.floats(0.01, 10))
def test_a_curve_is_first_there_where_it_is_there(values, wanted):
    """Up to the place that is found no look has the quality, from there on the best so far has it."""
    best = np.minimum.accumulate(np.array([values]), 1)
    spent = np.arange(1.0, len(values) + 1)
    (place,) = first_at(spent, best, np.array([wanted]))
    if best[0, -1] > wanted:
        assert place == math.inf
    else:
        assert (best[0, spent < place - 1e-9] > wanted - 1e-9).all()
        assert (best[0, spent > place + 1e-9] <= wanted + 1e-9).all()


def compared(name, ratio, difference):
    """An arm that needs so much of the baseline's, None where it is never as good, and is so far from it."""
    whole, apart = Interval(ratio, 0.5, None), Interval(difference, difference - 1, difference + 1)
    return Comparison(
        name, "training", (0, 1, 2), 0.5, 1.0, whole, whole, 0.5, apart, "no difference", f"No difference of {name}."
    )


@pytest.mark.parametrize(
    ("arms", "first", "why"),
    [
        ((("a", 1.2, 0.1), ("b", 0.9, 0.3)), "b", "needs least"),
        ((("a", None, -0.1), ("b", 1.5, 0.3)), "b", "needs least"),
        ((("a", None, 0.3), ("b", None, 0.1), ("c", None, 0.2)), "b", "is nearest"),
    ],
)
def test_one_arm_is_told_first(arms, first, why):
    """What needs least; or the nearest, where none is ever as good, which then is not said to need anything."""
    told = verdict_of([compared(*arm) for arm in arms], "unified", 0)
    assert f"No difference of {first}. Of the arms that one {why};" in told
