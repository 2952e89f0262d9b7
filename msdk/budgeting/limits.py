"""What a recipe allows itself: `[budget]` params, macs, flops and memory."""

import attrs

from msdk.recipe import LIMITS, BudgetOptions
from msdk.recipe.quantities import quantity

EQUAL = 1e-9
"""Relative figures that agree so far are equal: sums of floats differ beyond, by their order."""


@attrs.frozen
class Limit:
    """One limit and what was found.

    Attributes:
        key: "params" (all parameters), "macs" (mean MACs of a network call under the sampler's calls, in the budget's
            convention), "flops" (of the whole training) or "memory" (peak bytes of a training step).
        limit: The largest allowed.
        found: What the recipe has; None where it was not asked for.
        unit: Of both, see `msdk.recipe.quantities`.
        exceeded: Whether it is above the limit, by more than sums of floats differ.
    """

    key: str
    limit: float
    found: float | None
    unit: str
    exceeded: bool

    @classmethod
    def of(cls, key: str, limit: float, found: float | None) -> "Limit":
        """The limit of a key beside what was found."""
        return cls(key, limit, found, LIMITS[key], found is not None and found > limit * (1 + EQUAL))


def allowed(options: BudgetOptions) -> dict[str, float]:
    """The limits that a recipe sets: key -> the most."""
    written = {key: getattr(options, key) for key in LIMITS}
    return {key: quantity(str(most), LIMITS[key]) for key, most in written.items() if most is not None}
