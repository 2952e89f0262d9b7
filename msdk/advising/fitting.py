"""The power law of a loss against what was spent, L = a + b F^-c, fitted to curves and to their resamples. Pure NumPy.

For each exponent c of a grid, a and b are those of least squares with b >= 0 and a at least a floor that no denoiser
gets below; the c with the smallest sum of squares is taken. Losses have the same weight at all looks.
"""

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
        unit: FLOPs.
    """

    a: Numbers
    b: Numbers
    c: Numbers
    unit: float

    def __call__(self, flops: Numbers | float) -> Numbers:
        """The loss of every curve where so much was spent: [curves], or as `flops` says for each."""
        found: Any = self.a + self.b * (np.asarray(flops, dtype=np.float64) / self.unit) ** -self.c
        return found

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
    unit = float(spent[-1])
    count = len(losses)
    best = np.full(count, np.inf)
    found = np.zeros((3, count))
    mean = losses.mean(1)
    for exponent in EXPONENTS:
        x = (spent / unit) ** -exponent
        spread = x - x.mean()
        b = np.maximum(losses @ spread / (spread @ spread), 0.0)
        a = mean - b * x.mean()
        low = a < floor
        a = np.where(low, floor, a)
        b = np.where(low, np.maximum((losses - floor) @ x / (x @ x), 0.0), b)
        errors = ((losses - a[:, None] - b[:, None] * x) ** 2).sum(1)
        better = errors < best
        best = np.where(better, errors, best)
        found[:, better] = np.stack([a, b, np.full(count, exponent)])[:, better]
    return PowerLaw(found[0], found[1], found[2], unit)
