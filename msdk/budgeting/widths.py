"""The width of a part: which field of a spec it is, and which whole numbers it may be. Imports no torch."""

import bisect
import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import attrs

from msdk.decoders.base import Decoder
from msdk.encoders.base import Encoder, FeatureInfo
from msdk.errors import MsdkError, TargetError
from msdk.recipe import Recipe

FIELDS = ("channels", "width", "hidden")
"""Names that specs give their width: U-Nets `channels`, transformers `width`."""

STEP = 8
"""Smallest step between widths: tensor cores work on multiples of 8."""

P = TypeVar("P", Encoder, Decoder)


def width_field(part: Encoder | Decoder, where: str) -> str:
    """The field of a spec that holds its width.

    Raises:
        TargetError: It has none.
    """
    for name in FIELDS:
        if type(getattr(part, name, None)) is int:
            return name
    raise TargetError(
        f"{where}: a {type(part).__name__} has no width to vary: none of {', '.join(FIELDS)} is a field of it that "
        "holds a whole number; vary other parts with --vary"
    )


def width_of(part: Encoder | Decoder, where: str) -> int:
    """The width of a spec."""
    return getattr(part, width_field(part, where))


def with_width(part: P, width: int, where: str) -> P:
    """The same spec with another width.

    Raises:
        TargetError: It cannot have that one.
    """
    name = width_field(part, where)
    try:
        changed: Any = attrs.evolve(part, **{name: width})
    except ValueError as error:  # what validators of attrs raise
        raise TargetError(f"{where}: {width} is no width that it can have: {error}") from error
    return changed


def features(recipe: Recipe, encoder: Encoder) -> FeatureInfo:
    """What decoders are given by an encoder in the place of the recipe's own.

    Raises:
        PartError: The width does not suit the encoder.
    """
    info = encoder.info(recipe.shape)
    return info if recipe.adapter is None else recipe.adapter.info(info)


def grid(
    part: P,
    check: Callable[[P], object],
    where: str,
    *,
    step: int | None,
    smallest: int | None,
    largest: int,
) -> list[int]:
    """The widths that a part may have: multiples of the step, of which its own groups and heads admit each.

    Args:
        part: A spec.
        check: Raises `MsdkError` where a spec does not suit.
        where: Its place in the recipe.
        step: When not given 8, times the heads where a part has a number of them, so that each is a multiple of 8 wide.
        smallest: Least width; one step when not given.
        largest: Greatest width.

    Raises:
        TargetError: There is none.
    """
    heads = getattr(part, "heads", 1) if width_field(part, where) == "width" else 1
    multiple = step or STEP * heads
    first = multiple * math.ceil((smallest or multiple) / multiple)
    found, reason = list[int](), ""
    for width in range(first, largest + 1, multiple):
        try:
            check(with_width(part, width, where))
        except MsdkError as error:
            reason = str(error)
        else:
            found.append(width)
    if not found:
        raise TargetError(
            f"{where}: no multiple of {multiple} from {smallest or multiple} to {largest} is a width that it can have"
            f"{f' ({reason})' if reason else ''}: change --min, --max or --round"
        )
    return found


def along(ratio: Sequence[float], grids: Sequence[Sequence[int]]) -> list[tuple[int, ...]]:
    """All that scale x ratio can be rounded to, each width to the nearest of its grid, by growing scale.

    The scale runs from where the widest part has its smallest width to where the first part reaches its greatest.
    Narrower parts stop at their smallest width, because a proportion of 12:1 leaves them nothing else.
    """
    widest = max(range(len(ratio)), key=lambda index: ratio[index])
    low = grids[widest][0] / ratio[widest]
    high = max(low, min(each[-1] / share for share, each in zip(ratio, grids, strict=True)))
    turns = {
        (below + above) / (2 * share)  # where the nearest width changes
        for share, each in zip(ratio, grids, strict=True)
        for below, above in itertools.pairwise(each)
    }
    bounds = [low, *sorted(turn for turn in turns if low < turn < high), high]
    scales = [low, *((below + above) / 2 for below, above in itertools.pairwise(bounds)), high]
    rounded = (
        tuple(_nearest(each, scale * share) for share, each in zip(ratio, grids, strict=True)) for scale in scales
    )
    return list(dict.fromkeys(rounded))


def _nearest(widths: Sequence[int], wanted: float) -> int:
    index = bisect.bisect_left(widths, wanted)
    return min(widths[max(index - 1, 0) : index + 1], key=lambda width: abs(width - wanted))
