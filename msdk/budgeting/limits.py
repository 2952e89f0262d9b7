"""What a recipe allows itself: `[budget]` params, macs, flops and memory."""

from typing import Any

import attrs

from msdk.recipe import LIMITS, BudgetOptions
from msdk.recipe.quantities import quantity


@attrs.frozen
class Limit:
    """One limit and what was found.

    Attributes:
        key: "params" (all parameters), "macs" (mean MACs of a network call under the sampler's calls, in the budget's
            convention), "flops" (of the whole training) or "memory" (peak bytes of a training step).
        limit: The largest allowed.
        found: What the recipe has; None where it was not asked for.
    """

    key: str
    limit: float
    found: float | None

    @property
    def exceeded(self) -> bool:
        return self.found is not None and self.found > self.limit

    def as_json(self) -> dict[str, Any]:
        return {**attrs.asdict(self), "unit": LIMITS[self.key], "exceeded": self.exceeded}


def allowed(options: BudgetOptions) -> dict[str, float]:
    """The limits that a recipe sets: key -> the most."""
    written = {key: getattr(options, key) for key in LIMITS}
    return {key: quantity(str(most), LIMITS[key]) for key, most in written.items() if most is not None}
