"""Amounts as people write them, "18.65G", "250 M" or "16 GiB": text -> number and back, each unit in one spelling."""

import re

from msdk.errors import MsdkError

PREFIXES = {"": 1, "k": 10**3, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12, "P": 10**15, "E": 10**18}
BINARY = {"Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40}
UNITS = {
    "params": ("params", "parameters"),
    "MACs": ("MACs", "MAC"),
    "FLOPs": ("FLOPs", "FLOP"),
    "B": ("B", "bytes"),
    "bit/s": ("bit/s", "bits/s", "bps", "b/s", "bit", "b"),
    "h": ("hours", "h"),
    "money": ("money",),
}
"""Unit -> how it may be spelled. Money is in whatever currency prices are."""

PLAIN = ("h", "money")
"""Units that are told without prefixes."""

EXAMPLES = {
    "params": "250M",
    "MACs": "18.65G",
    "FLOPs": "3.4E",
    "B": "24GiB",
    "bit/s": "400G",
    "h": "100 h",
    "money": "500",
}


BARE = 1e5
"""A bare number of MACs below it is in G, as tables have them: "15" is 15 GMACs, in a recipe and on the command line.

From here on it is a count: no network call costs so many GMACs, and none that is worth a limit so few MACs.
"""


class QuantityError(MsdkError):
    """A text that is no amount of what is meant."""


def quantity(text: str, unit: str) -> float:
    """The number that a text stands for: digits, an SI prefix (for bytes a binary one, too), and perhaps the unit.

    Args:
        text: "18.65G", "18.65 GMACs", "16 GiB", ...; a bare number is a count, but see `BARE`.
        unit: What it must be: a key of `UNITS`.

    Raises:
        QuantityError: It is no amount, or one of something else; the message says how it is written.
    """
    allowed = {**PREFIXES, **BINARY} if unit == "B" else {"": 1} if unit in PLAIN else PREFIXES
    found = re.fullmatch(
        r"\s*((?:[0-9]{1,3}(?:,[0-9]{3})+|[0-9][0-9_]*)\.?[0-9]*(?:[eE][+-]?[0-9]+)?)\s*([A-Za-z ]*?)\s*", text
    )
    if found:
        number, rest = float(found[1].replace(",", "")), found[2]
        if unit == "MACs" and not rest and number < BARE:
            return number * PREFIXES["G"]
        for spelled in (*UNITS[unit], ""):
            if rest.endswith(spelled) and (prefix := rest.removesuffix(spelled).rstrip()) in allowed:
                return number * allowed[prefix]
        for other, spellings in UNITS.items():
            if other != unit and rest.endswith(spellings):
                raise QuantityError(_mixed(text, unit, other))
    known = ", ".join(prefix for prefix in allowed if prefix)
    prefixes = f", perhaps with {known}" if known else ""
    raise QuantityError(f"'{text}' is no amount: write a number{prefixes}, and perhaps {unit}: {EXAMPLES[unit]}")


def bandwidth(text: str) -> float:
    """Bytes/s that a text stands for: "400G", "400Gbit/s" and "400Gbps" are bits, "50GB" and "50 GB/s" are bytes.

    Raises:
        QuantityError: It is no amount of either.
    """
    plain = text.strip().removesuffix("/s")
    return quantity(plain, "B") if plain.endswith(("B", "bytes")) else quantity(text, "bit/s") / 8


def _mixed(text: str, unit: str, other: str) -> str:
    advice = ""
    if {unit, other} == {"MACs", "FLOPs"}:
        advice = "; 1 MAC is 2 FLOPs, so write " + ("half" if unit == "MACs" else "twice") + f" the number, in {unit}"
    return f"'{text}' is an amount of {other}, but {unit} are meant here, for example {EXAMPLES[unit]}{advice}"


LARGE = 1e6
"""Parameters from here on are told in millions, fewer in full."""


def prefix_of(value: float, unit: str) -> tuple[str, float]:
    """The prefix that suits an amount, and the number that it stands for: of bytes a binary one ("Gi", 2**30).

    Four digits of an amount in it begin at 1.000; parameters are told in full or in millions.
    """
    if unit == "params":
        return ("M", 1e6) if abs(value) >= LARGE else ("", 1.0)
    if unit in PLAIN:
        return "", 1.0
    known = BINARY if unit == "B" else {name: size for name, size in PREFIXES.items() if name != "K"}
    # What rounds to 1.000 belongs to the next prefix.
    fits = [(name, float(size)) for name, size in known.items() if name and abs(value) >= 0.99995 * size]
    return fits[-1] if fits else ("", 1.0)


def si_prefix(largest: float) -> tuple[str, float]:
    """The prefix for a column of counts, and the count that it stands for."""
    return ("G", 1e9) if largest >= 1e9 else ("M", 1e6)


def written(value: float, unit: str, *, padded: bool = True) -> str:
    """An amount as a person reads it, and as `quantity` reads it back: "18.65 GMACs", "237.2 M parameters", "24 GiB".

    Args:
        value: In `unit`.
        unit: A key of `UNITS`, or another that takes SI prefixes.
        padded: Whether trailing zeros stay, so that figures line up.
    """
    prefix, size = prefix_of(value, unit)
    number = significant(value / size) if prefix or value != int(value) else f"{int(value):,}"
    if not padded and "." in number:
        number = number.rstrip("0").rstrip(".")
    return f"{number} {f'{prefix} parameters'.lstrip() if unit == 'params' else prefix + unit}"


def significant(value: float, digits: int = 4) -> str:
    """Significant digits with trailing zeros, so that a column of like figures lines up; never an exponent.

    What is smaller than 1e-9 is 0.
    """
    if abs(value) < 1e-9:
        return "0"
    exponent = int(f"{value:.{digits - 1}e}".partition("e")[2])  # of the rounded number: 9.9996 has one digit more
    return f"{value:,.{max(digits - 1 - exponent, 0)}f}"
