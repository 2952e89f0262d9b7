"""What can be solved for: a target with its unit, limits of the widths, and a preference. Imports no torch."""

import math
import re
from collections.abc import Callable, Mapping
from typing import Any, Literal

import attrs

from msdk.errors import TargetError
from msdk.recipe import Convention
from msdk.recipe.quantities import BARE, QuantityError, quantity, written

What = Literal["macs", "params", "training-flops", "memory"]
Weights = Literal["sampling", "training", "length"]
Vary = Literal["decoders", "encoder", "all"]

UNITS: Mapping[What, str] = {"macs": "MACs", "params": "params", "training-flops": "FLOPs", "memory": "B"}
"""What is solved for -> its unit, see `msdk.recipe.quantities`."""

EXAMPLES: Mapping[What, str] = {"macs": "18.65G", "params": "200M", "training-flops": "3.4E", "memory": "24GiB"}


def target_of(text: str, what: What) -> float:
    """The number that a text asks for.

    Args:
        text: "18.65G" or "18.65 GMACs", "200M", "3.4E", "24GiB"; bare numbers are what they are in `[budget]`, see
            `msdk.recipe.quantities.BARE`.
        what: What is solved for.

    Raises:
        QuantityError: It is no amount of that, or a small one without a unit where several could be meant.
    """
    value = quantity(text, UNITS[what])
    if what != "macs" and value < BARE and re.fullmatch(r"\s*[0-9][0-9_.,]*(?:[eE][+-]?[0-9]+)?\s*", text):
        raise QuantityError(
            f"'{text}' has no unit, and several could be meant: write {UNITS[what]}, as in {EXAMPLES[what]}"
        )
    if not 0 < value < math.inf:
        raise QuantityError(f"'{text}' cannot be solved for: it must be above 0, for example {EXAMPLES[what]}")
    return value


def ratio_of(text: str) -> tuple[float, ...]:
    """The proportion that a text like "12:8:1" states.

    Raises:
        TargetError: It is none.
    """
    try:
        shares = tuple(float(share) for share in text.split(":"))
    except ValueError:
        shares = ()
    if not shares or not all(0 < share < math.inf for share in shares):
        raise TargetError(f"'{text}' is no proportion: write one number above 0 for each decoder, as in 12:8:1")
    return shares


def _at_least(least: float) -> Callable[[object, Any, float | None], None]:
    def check(_: object, field: Any, value: float | None) -> None:
        if value is not None and not least <= value < math.inf:
            raise TargetError(f"{field.name} must be at least {least:g}, got {value:g}")

    return check


@attrs.frozen(kw_only=True)
class Profile:
    """A preferred proportion of the decoders' widths, and where it comes from.

    Attributes:
        ratio: Least noise first; the largest is 1.
        capacity: What each stage's decoder has to supply, see `msdk.budgeting.profiling`.
        how: The derivation, for a reader.
    """

    ratio: tuple[float, ...]
    capacity: tuple[float, ...]
    how: str


@attrs.frozen(kw_only=True)
class Question:
    """What is solved for, and within which limits.

    Attributes:
        target: In MACs, parameters, FLOPs or bytes.
        what: "macs" of a mean network call, "params" in all, "training-flops" of the whole training, or "memory": bytes
            of weights, gradients, optimiser and averaged weights, without activations.
        convention: How MACs are counted.
        weights: Which mean over the stages "macs" is.
        vary: Whose widths are found: the decoders', the encoder's, or both.
        ratio: Proportion of the decoders' widths, least noise first; free when not given.
        profile: Gives the proportion that is preferred, in the place of the recipe's own.
        step: Widths are multiples of it; each part's own smallest when not given.
        smallest: Least width; one step when not given.
        largest: Greatest width; for decoders three times the recipe's widest, for the encoder twice its own, when not
            given.
        max_params: Most parameters in all.
        at_most: Whether answers above the target are left out.
        tolerance: Share of the target within which all distances count as equally near.
        count: Candidates wanted.
    """

    target: float
    what: What = "macs"
    convention: Convention = "exact"
    weights: Weights = "sampling"
    vary: Vary = "decoders"
    ratio: tuple[float, ...] | None = None
    profile: Profile | None = None
    step: int | None = attrs.field(default=None, validator=_at_least(1))
    smallest: int | None = attrs.field(default=None, validator=_at_least(1))
    largest: int | None = attrs.field(default=None, validator=_at_least(1))
    max_params: float | None = None
    at_most: bool = False
    tolerance: float = attrs.field(default=0.01, validator=_at_least(0))
    count: int = attrs.field(default=5, validator=_at_least(1))

    def __attrs_post_init__(self) -> None:
        if self.vary == "encoder" and (self.ratio or self.profile):
            raise TargetError("a proportion is of the decoders' widths, which `vary = encoder` leaves as they are")
        if self.ratio and self.profile:
            raise TargetError("both --ratio and --profile give the decoders' proportion: leave one of them out")

    @property
    def unit(self) -> str:
        """Of the target, see `msdk.recipe.quantities`."""
        return UNITS[self.what]

    def _told(self, plain: dict[str, Any]) -> dict[str, Any]:
        """In JSON the target has its unit, and the mean is told where there is one."""
        weights = {"macs": self.weights, "training-flops": "training"}.get(self.what)
        return {**plain, "unit": self.unit, "weights": weights}

    @staticmethod
    def _heard(data: Mapping[str, Any]) -> Mapping[str, Any]:
        return {name: value for name, value in data.items() if name != "unit" and (name, value) != ("weights", None)}


def amount(value: float, what: What) -> str:
    """An amount of what is solved for, as people read it: "18.65 GMACs", "237.2 M parameters", "24 GiB"."""
    return written(value, UNITS[what], padded=False)
