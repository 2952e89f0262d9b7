"""Amounts as people write them, "18.65G", "250 M" or "16 GiB": text -> number, with units that cannot be mixed up."""

import re

from msdk.errors import MsdkError

PREFIXES = {"": 1, "k": 10**3, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12, "P": 10**15, "E": 10**18}
BINARY = {"Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40}
UNITS = {"params": ("params", "parameters"), "MACs": ("MACs", "MAC"), "FLOPs": ("FLOPs", "FLOP"), "B": ("B", "bytes")}
"""Unit -> how it may be spelled."""

EXAMPLES = {"params": "250M", "MACs": "18.65G", "FLOPs": "3.4E", "B": "24GiB"}


class QuantityError(MsdkError):
    """A text that is no amount of what is meant."""


def quantity(text: str, unit: str) -> float:
    """The number that a text stands for: digits, an SI prefix (for bytes a binary one, too), and perhaps the unit.

    Args:
        text: "18.65G", "18.65 GMACs", "16 GiB", ...
        unit: What it must be: "params", "MACs", "FLOPs" or "B".

    Raises:
        QuantityError: It is no amount, or one of something else; the message says how it is written.
    """
    allowed = {**PREFIXES, **BINARY} if unit == "B" else PREFIXES
    found = re.fullmatch(r"\s*([0-9][0-9_]*\.?[0-9]*(?:[eE][+-]?[0-9]+)?)\s*([A-Za-z]*)\s*", text)
    if found:
        number, rest = float(found[1]), found[2]
        for spelled in (*UNITS[unit], ""):
            if rest.endswith(spelled) and (prefix := rest.removesuffix(spelled)) in allowed:
                return number * allowed[prefix]
        for other, spellings in UNITS.items():
            if other != unit and rest.endswith(spellings):
                raise QuantityError(_mixed(text, unit, other))
    known = ", ".join(prefix for prefix in allowed if prefix)
    raise QuantityError(
        f"'{text}' is no amount: write a number, perhaps with {known}, and perhaps {unit}: {EXAMPLES[unit]}"
    )


def _mixed(text: str, unit: str, other: str) -> str:
    advice = ""
    if {unit, other} == {"MACs", "FLOPs"}:
        advice = "; 1 MAC is 2 FLOPs, so write " + ("half" if unit == "MACs" else "twice") + f" the number, in {unit}"
    return f"'{text}' is an amount of {other}, but {unit} are meant here, for example {EXAMPLES[unit]}{advice}"
