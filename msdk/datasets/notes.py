"""dataset.json, which says of images in one file what their pixels do not: classes, their names, how they were made."""

import json
import typing
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs

from msdk.datasets.listing import LABELS
from msdk.errors import DataError, quoted


@attrs.frozen
class Notes:
    """The content of dataset.json.

    Attributes:
        labels: Name of an image -> its class; empty where it gives none.
        class_names: The name of class 0, of class 1, ...; None where classes have no names.
        protocol: What the images were made by, see `msdk data prepare`; empty where it does not say.
        jpeg: How many of them were made from JPEG files.
    """

    labels: Mapping[str, int] = attrs.field(factory=dict[str, int])
    class_names: Sequence[str] | None = None
    protocol: str = ""
    jpeg: int = 0


def read_notes(content: bytes, path: Path) -> Notes:
    """What the dataset.json of a file says.

    Args:
        content: Of dataset.json.
        path: The file that it is in, for messages.

    Raises:
        DataError: It has another structure, an image has two classes, or a class is no whole number in range.
    """
    try:
        found = json.loads(content)
        pairs: list[tuple[str, int]] = [(name, label) for name, label in found.get("labels") or ()]
        known = dict(pairs)
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        raise DataError(f'{LABELS} in {path} is not {{"labels": [[name, class], ...]}}: {error}') from error
    for name, label in known.items():
        if type(label) is not int:
            raise DataError(f"the class of {name} in {LABELS} of {path} is no whole number: {quoted(label)}")
        if not -1 <= label < 2**31:
            raise DataError(f"the class of {name} in {LABELS} of {path} is out of range: {quoted(label)}")
    for name, label in pairs:
        if known[name] != label:
            raise DataError(f"{LABELS} of {path} gives {name} two classes, {label} and {known[name]}")
    made = found.get("prepared")
    made = typing.cast("Mapping[str, Any]", made) if isinstance(made, dict) else {}
    protocol, jpeg = made.get("protocol", ""), made.get("jpeg", 0)
    return Notes(
        known,
        _names(found.get("class_names"), path),
        protocol[:100] if isinstance(protocol, str) else "",
        jpeg if type(jpeg) is int else 0,
    )


def _names(names: object, path: Path) -> Sequence[str] | None:
    if names is None:
        return None
    listed = typing.cast("list[object]", names) if isinstance(names, list) else None
    if listed is None or not all(isinstance(name, str) for name in listed):
        raise DataError(f"class_names in {LABELS} of {path} are a list of text, got {quoted(names)}")
    found = typing.cast("list[str]", listed)
    if len(set(found)) < len(found):
        twice = next(name for name in found if found.count(name) > 1)
        raise DataError(f"class_names in {LABELS} of {path} has {twice!r} twice")
    return found
