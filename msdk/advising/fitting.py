"""The power law of a loss against what was spent, L = a + b F^-c, fitted to curves and to their resamples. Pure NumPy.

For each exponent c of a grid, a and b are those of least squares with b >= 0 and a at least a floor that no denoiser
gets below; the c with the smallest sum of squares is taken. Losses have the same weight at all looks.
"""

from collections.abc import Sequence
from typing import Any

import attrs
import numpy as np
from numpy.typing import NDArray

Numbers = NDArray[np.float64]

EXPONENTS: Numbers = np.geomspace(0.05, 2.0, 120)
"""Values of c that are tried."""


@attrs.frozen(eq=False)
class PowerLaw:
    """L = a + b (F / unit)^-c, of the mean over seeds first, and of each of its resamples.

    Attributes:
        a: The loss that is left: [curves].
        b: What more there is at `unit`: [curves].
        c: [curves].
        unit: FLOPs at the last look that it was fitted to.
    """

    a: Numbers
    b: Numbers
    c: Numbers
    unit: float

    def __call__(self, flops: Numbers | float) -> Numbers:
        """The loss of every curve where so much was spent: [curves], or as `flops` says for each."""
        found: Any = self.a + self.b * (np.asarray(flops, dtype=np.float64) / self.unit) ** -self.c
        return found

    def doublings(self, flops: Numbers | float) -> Any:
        """How far so much lies from the last look, in doublings: as `flops` has them."""
        return np.abs(np.log2(np.asarray(flops, dtype=np.float64) / self.unit))

    @property
    def mean(self) -> tuple[float, float, float]:
        """a, b and c of the mean."""
        return float(self.a[0]), float(self.b[0]), float(self.c[0])


def fit(spent: Numbers, losses: Numbers, floor: float = 0.0) -> PowerLaw:
    """The power laws of curves.

    Args:
        spent: FLOPs at each look, ascending, above 0: [looks], three or more.
        losses: [curves, looks].
        floor: Least value of a.
    """
    return fit_together([spent], [losses], [floor])[0]


def fit_together(spent: Sequence[Numbers], losses: Sequence[Numbers], floors: Sequence[float]) -> list[PowerLaw]:
    """The power laws of several networks and stages, which have the exponent in common.

    Alone, the exponent of a short curve is hardly known, and with it all that is extended from it: two curves that are
    the same where they were seen would part beyond. And only with one exponent is the loss of all stages, their sum by
    shares, a power law as well.

    Args:
        spent: Of each, FLOPs at each look, ascending, above 0: [looks].
        losses: Of each: [curves, looks].
        floors: Of each, the least value of a.
    """
    count = len(losses[0])
    best = np.full(count, np.inf)
    a, b, c = np.zeros((len(losses), count)), np.zeros((len(losses), count)), np.zeros(count)
    for exponent in EXPONENTS:
        tried = [_lines((x / x[-1]) ** -exponent, y, floor) for x, y, floor in zip(spent, losses, floors, strict=True)]
        errors = np.sum([error for _, _, error in tried], axis=0)
        better = errors < best
        best[better], c[better] = errors[better], exponent
        for curve, (here, slope, _) in enumerate(tried):
            a[curve, better], b[curve, better] = here[better], slope[better]
    return [PowerLaw(a[curve], b[curve], c, float(each[-1])) for curve, each in enumerate(spent)]


def _lines(x: Numbers, y: Numbers, floor: float) -> tuple[Numbers, Numbers, Numbers]:
    """The best a >= floor and b >= 0 of y = a + b x, and the sum of squares that is left, of each row of y."""
    spread = x - x.mean()
    b = np.maximum(y @ spread / (spread @ spread), 0.0)
    a = y.mean(1) - b * x.mean()
    low = a < floor
    a = np.where(low, floor, a)
    b = np.where(low, np.maximum((y - floor) @ x / (x @ x), 0.0), b)
    return a, b, ((y - a[:, None] - b[:, None] * x) ** 2).sum(1)
