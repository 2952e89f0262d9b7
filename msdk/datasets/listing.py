"""Which files of a folder or zip are images, decided once: for reading them, and for telling what was passed over."""

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import attrs

SUFFIXES = {".png", ".jpg", ".jpeg", ".webp", ".bmp"}
"""Files with these endings are images."""

OTHERS = frozenset(
    (
        *(".apng", ".avif", ".dng", ".exr", ".gif", ".hdr", ".heic", ".heif", ".jfif", ".jp2", ".jpe", ".jxl"),
        *(".pbm", ".pcx", ".pgm", ".pnm", ".ppm", ".psd", ".svg", ".tga", ".tif", ".tiff"),
    )
)
"""Files with these endings are images that are not read: no data set leaves them out in silence."""

ARCHIVES = frozenset((".zip", ".tar", ".tgz", ".gz", ".bz2", ".xz", ".zst", ".7z", ".rar", ".parquet", ".npz"))
"""Files with these endings may hold images, but not in the place where a folder or a zip has them."""

LABELS = "dataset.json"
"""The entry of a zip file that gives classes: `{"labels": [[name, class], ...]}`."""

HIDDEN, NO_IMAGE, ARCHIVE = "hidden", "other files", "archives, not opened"
"""Why files are passed over."""


@attrs.frozen
class Listing:
    """The names of a folder or zip, sorted out.

    Attributes:
        images: Names of images, in the order they came.
        classes: Names of listings of classes.
        passed_over: Reason -> names.
        problems: Why these data are refused, a sentence each.
    """

    images: Sequence[str]
    classes: Sequence[str]
    passed_over: Mapping[str, Sequence[str]]
    problems: Sequence[str]


def listed(names: Iterable[str], place: Path, kind: str) -> Listing:
    """Sorts out names, relative to their place and with slashes.

    Args:
        names: Of files; one that ends with a slash is a folder that was not looked into.
        place: Where they are, for messages.
        kind: What that is: "folder" or "zip file".
    """
    images: list[str] = []
    classes: list[str] = []
    passed: dict[str, list[str]] = {}
    others: Counter[str] = Counter()
    for name in names:
        last = name.rpartition("/")[2]
        ending = suffix(last)
        if hidden(name):
            passed.setdefault(HIDDEN, []).append(name)
        elif ending in SUFFIXES:
            images.append(name)
        elif ending in OTHERS:
            others[ending] += 1
        elif last == LABELS:
            classes.append(name)
        else:
            passed.setdefault(ARCHIVE if ending in ARCHIVES else NO_IMAGE, []).append(name)
    problems: list[str] = []
    if others:
        told = ", ".join(f"{count:,} {ending}" for ending, count in sorted(others.items()))
        problems.append(
            f"{place} {'also holds' if images else 'holds'} images that are not read ({told}): convert them to PNG, or "
            "move them elsewhere"
        )
    if not images and not others:
        archives = passed.get(ARCHIVE)
        hint = f", but archives ({some(archives)}): unpack them, or read them as zip or shards" if archives else ""
        problems.append(f"the {kind} {place} holds no images ({', '.join(sorted(SUFFIXES))}){hint}")
    return Listing(images, classes, passed, problems)


def hidden(name: str) -> bool:
    """Whether a name leads through what systems and editors hide: names with a dot, and what macOS adds to zips."""
    return _HIDDEN.search(name) is not None


# Of `./a.png` and `../a.png`, as some programs write them into zips, the dots hide nothing.
_HIDDEN = re.compile(r"(^|[/\\])(\.(?!\.?[/\\])|__MACOSX($|[/\\]))")


def suffix(name: str) -> str:
    """The ending of a file's name in small letters, with its dot; none of a name that begins with its only dot."""
    stem, dot, ending = name.rpartition(".")
    return f".{ending}".lower() if stem and dot and ending else ""


def some(names: Sequence[str]) -> str:
    """The first of several names, and how many more there are."""
    return names[0] + (f" and {len(names) - 1:,} more" if len(names) > 1 else "")
