"""How figures are written in columns and sentences: shares, ratios, counts of a fixed unit.

An amount with its unit is `msdk.recipe.quantities.written`, everywhere.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from msdk.recipe.quantities import significant, written

if TYPE_CHECKING:
    from msdk.budgeting import Budget

Json = Mapping[str, Any]


def millions(count: float) -> str:
    return significant(count / 1e6)


def scaled(count: float | None, unit: float) -> str:
    """A count in a unit, four significant digits."""
    return "-" if count is None else significant(count / unit)


def apart(found: float, expected: float | None) -> str:
    """How far a figure lies from what was expected: "+1.2 %"."""
    if not expected:
        return "–"
    share = round(100 * (found - expected) / expected, 1)
    return f"{share:+.1f} %" if share else "0 %"


def short(recipe: str) -> str:
    """A recipe's file as a name for a table: "recipes/cifar10/dpm-unified.toml" is "cifar10/dpm-unified"."""
    return "/".join(recipe.removesuffix(".toml").split("/")[-2:])


def percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.1f} %"


def ratio(value: float | None, first: float | None) -> str:
    """How a figure compares with the first row's: " (106%)"."""
    return f" ({100 * value / first:.0f}%)" if value and first else ""


def general(value: object) -> str:
    """Any setting: floats with four significant digits."""
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def title_of(one: "Budget", what: str = "") -> str:
    """The head of a table about one recipe."""
    return ": ".join(part for part in (short(one.recipe), one.title, what) if part)


def planned_on(budgets: "Sequence[Budget]") -> str:
    """Which cards training is planned for, and at which rate; empty where it is not."""
    plans = dict.fromkeys(
        f"{each.title} at {percent(each.utilisation)} of {written(each.peak_flops_per_second, 'FLOP/s')} ({each.rate})"
        for each in (one.estimate for one in budgets)
        if each is not None
    )
    return " and ".join(plans)
