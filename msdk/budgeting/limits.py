"""What a recipe allows itself: `[budget]` params, macs, flops and memory, checked against what was counted."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import attrs

from msdk.quantities import quantity
from msdk.recipe import LIMITS, BudgetOptions

if TYPE_CHECKING:
    from msdk.budgeting.costs import Budget

_FOUND: "dict[str, Callable[[Budget], float | None]]" = {
    "params": lambda budget: budget.params,
    "macs": lambda budget: budget.equivalent_macs("sampling"),
    "flops": lambda budget: budget.training and budget.training.total_flops,
    "memory": lambda budget: budget.memory and budget.memory.peak,
}
"""Key of `[budget]` -> what it limits."""


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


def check_limits(options: BudgetOptions, budget: "Budget") -> tuple[Limit, ...]:
    """The limits that a recipe sets, beside what its budget has."""
    written = {key: getattr(options, key) for key in LIMITS}
    return tuple(
        Limit(key, quantity(text, LIMITS[key]), _FOUND[key](budget))
        for key, text in written.items()
        if text is not None
    )
