"""Where one arm reaches the quality of another, and how sure that is: paired seeds, resampled. Pure NumPy.

Curves are quality, the smaller the better, against what was spent. What counts of a curve is its mean over seeds, the
best so far, with straight lines between looks over the logarithm of what was spent.

Intervals are percentiles of a multiplier bootstrap (Wu 1986; van der Vaart and Wellner 1996, ch. 2.9) that is exact for
few seeds where curves are normal: a resample is

    mean* = mean + u sum_i g_i (curve_i - mean) / sqrt(S (S - 1)),    g_i ~ N(0, 1),  u = sqrt((S - 1) / chi2(S - 1)),

for S seeds. Of a single number it has Student's distribution with S - 1 degrees of freedom around the mean, with the
standard error of the mean, so its percentiles are the t interval; drawing seeds again with replacement has, of three
seeds, just ten outcomes, and its 95 % interval covers the truth in at most 75 % of all cases. Seeds are paired: both
arms have the same g_i and u.
"""

from typing import Any, Literal

import attrs
import numpy as np
from numpy.typing import NDArray

Numbers = NDArray[np.float64]

RESAMPLES = 4000


@attrs.frozen(eq=False)
class Curves:
    """The curves of an arm.

    Args:
        spent: At each look, the same for all seeds, ascending, above 0: [looks].
        quality: Of each seed at each look, the smaller the better: [seeds, looks].
    """

    spent: Numbers
    quality: Numbers


@attrs.frozen
class Estimate:
    """A number with its interval; infinite is what is never reached."""

    value: float
    low: float
    high: float


@attrs.frozen
class Crossing:
    """Where an arm reaches the quality of another.

    Attributes:
        target: The other's quality.
        other: What the other spends until it has it.
        crossing: What the arm spends until it has it.
        ratio: The one over the other.
        reached: Share of the resamples in which the arm reaches it.
        at_least: Low end of the ratio's interval, where "never reached" counts as no more than all that was spent.
        difference: Quality of the arm less that of the other, where both have spent the same: all that the one of them
            has spent that spends less.
    """

    target: float
    other: float
    crossing: Estimate
    ratio: Estimate
    reached: float
    at_least: float
    difference: Estimate


def cross(
    ours: Curves,
    theirs: Curves,
    *,
    target: Literal["best", "final"] = "best",
    confidence: float = 0.95,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Crossing:
    """Where our curves reach the quality of theirs.

    Args:
        ours: Of an arm.
        theirs: Of another, with the same seeds in the same order.
        target: Their quality is their "best", or their "final" one.
        confidence: Of the intervals.
        resamples: How many are drawn.
        seed: Of what is drawn.
    """
    factors = multipliers(len(ours.quality), resamples, seed)
    us, them = (resampled(each.quality, factors) for each in (ours, theirs))
    last = them[:, -1]
    us, them = np.minimum.accumulate(us, 1), np.minimum.accumulate(them, 1)
    wanted = them[:, -1] if target == "best" else last
    own, other = first_at(ours.spent, us, wanted), first_at(theirs.spent, them, wanted)
    least = own.copy()
    least[~np.isfinite(own)] = ours.spent[-1]
    end = min(ours.spent[-1], theirs.spent[-1])
    apart = _at(ours.spent, us, end) - _at(theirs.spent, them, end)
    ratio = own / other
    tail = (1 - confidence) / 2
    return Crossing(
        target=float(wanted[0]),
        other=float(other[0]),
        crossing=estimate(own, tail),
        ratio=estimate(ratio, tail),
        reached=float(np.isfinite(own[1:]).mean()),
        at_least=_quantile((least / other)[1:], tail),
        difference=estimate(apart, tail),
    )


def first_at(spent: Numbers, best: Numbers, wanted: Numbers) -> Numbers:
    """What is spent where curves first have a quality; infinite where they never have, the first look where it has.

    Args:
        spent: At each look: [looks].
        best: Curves that never rise: [curves, looks].
        wanted: The quality of each: [curves].
    """
    there = best <= wanted[:, None]
    place = there.argmax(1)
    before = np.maximum(place - 1, 0)
    rows = np.arange(len(best))
    high, low = best[rows, before], best[rows, place]
    share = np.where(high > low, (high - wanted) / np.where(high > low, high - low, 1.0), 1.0)
    log = np.log(spent)
    found = np.exp(log[before] + np.clip(share, 0, 1) * (log[place] - log[before]))
    return np.where(there.any(1), found, np.inf)


def multipliers(count: int, resamples: int, seed: int = 0) -> Numbers:
    """The factors of the bootstrap, [1 + resamples, count]: zeros for the mean itself, then those of each resample."""
    generator = np.random.default_rng(seed)
    factors = generator.standard_normal((resamples, count))
    if count > 1:
        factors *= np.sqrt((count - 1) / generator.chisquare(count - 1, resamples))[:, None]
        factors /= np.sqrt(count * (count - 1))
    return np.concatenate([np.zeros((1, count)), factors])


def resampled(quality: Numbers, factors: Numbers) -> Numbers:
    """Mean curves by `multipliers`: [1 + resamples, looks] of [seeds, looks]."""
    mean = quality.mean(0)
    return mean + factors @ (quality - mean)


def _at(spent: Numbers, curves: Numbers, place: float) -> Numbers:
    """Curves at one place, between looks."""
    log, here = np.log(spent), np.log(place)
    after = min(max(int(np.searchsorted(log, here)), 1), len(log) - 1) if len(log) > 1 else 0
    before = max(after - 1, 0)
    width = log[after] - log[before]
    share = float(np.clip((here - log[before]) / width, 0, 1)) if width > 0 else 1.0
    return curves[:, before] + share * (curves[:, after] - curves[:, before])


def estimate(values: Numbers, tail: float) -> Estimate:
    """Of the means, and of their resamples."""
    return Estimate(float(values[0]), _quantile(values[1:], tail), _quantile(values[1:], 1 - tail))


def _quantile(values: Numbers, share: float) -> float:
    """Of numbers that may be infinite, so that none is taken between two."""
    found: Any = np.quantile(values, share, method="inverted_cdf")
    return float(found)
