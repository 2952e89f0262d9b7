"""How figures are written: units, significant digits, shares."""

from collections.abc import Mapping
from typing import Any

Json = Mapping[str, Any]


def millions(count: float) -> str:
    return f"{count / 1e6:.4g}"


def si_prefix(largest: float) -> tuple[str, float]:
    """The prefix for a column of counts, and the count that it stands for."""
    return ("G", 1e9) if largest >= 1e9 else ("M", 1e6)


def scaled(count: float | None, unit: float) -> str:
    """A count in a unit, four significant digits."""
    return "-" if count is None else f"{count / unit:.4g}"


def brief(value: float) -> str:
    """Two decimals (three significant digits below 1), or separators for large numbers."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.2f}" if value >= 1 else f"{value:.3g}"


def significant(value: float, digits: int = 4) -> str:
    """Significant digits with trailing zeros, so that a column of like figures lines up; never an exponent."""
    if not value:
        return "0"
    decimals = max(digits - len(f"{abs(value):.0f}") if abs(value) >= 1 else digits - 1, 0)
    rounded = f"{value:,.{decimals}f}"
    return rounded if float(rounded.replace(",", "")) or abs(value) >= 1e-9 else "0"


def with_unit(value: float, unit: str) -> str:
    """A quantity with the SI prefix that suits it: 18646531993.6 MACs is "18.65 GMACs"."""
    for power, prefix in ((18, "E"), (15, "P"), (12, "T"), (9, "G"), (6, "M"), (3, "k")):
        if abs(value) >= 0.99995 * 10**power:  # what rounds to 1.000 belongs to the next prefix
            return f"{significant(value / 10**power)} {prefix}{unit}"
    return f"{significant(value) if value != int(value) else int(value)} {unit}"


def in_bytes(count: float) -> str:
    """Memory in the binary units that GPUs are sold in."""
    for power, prefix in ((4, "Ti"), (3, "Gi"), (2, "Mi"), (1, "Ki")):
        if abs(count) >= 1024**power:
            return f"{significant(count / 1024**power)} {prefix}B"
    return f"{count:.0f} B"


def apart(found: float, expected: float | None) -> str:
    """How far a figure lies from what was expected: "+1.2 %"."""
    if not expected:
        return "–"
    share = round(100 * (found - expected) / expected, 1)
    return f"{share:+.1f} %" if share else "0 %"


def amount(value: float, unit: str) -> str:
    """A quantity in the units of `msdk.recipe.quantities`: "237.2 M parameters", "18.65 GMACs", "24 GiB"."""
    if unit == "params":
        return f"{significant(value / 1e6)} M parameters" if abs(value) >= 1e5 else f"{value:,.0f} parameters"
    return in_bytes(value) if unit == "B" else with_unit(value, unit)


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


def title_of(one: Json, what: str = "") -> str:
    """The head of a table about one recipe."""
    return ": ".join(part for part in (short(one["recipe"]), one["title"], what) if part)
