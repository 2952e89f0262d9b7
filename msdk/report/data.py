"""What a data set is as tables: what was found, passed over and refused, then its classes."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from msdk.report.figures import short
from msdk.report.grid import Grid

if TYPE_CHECKING:
    from msdk.preparing.surveying import Kind, Survey

MOST_CLASSES = 40
"""Rows of the table of classes; JSON has them all."""


def survey_grids(survey: "Survey") -> list[Grid]:
    """A table of what was found, with an example of each kind, and one of the classes, where there are any."""
    rows: list[tuple[str, str, str]] = [("images", "", f"{survey.images:,}")]
    rows += [(f"refused: {each.what}", "", f"{each.count:,}") for each in survey.refused]
    rows += _rows("passed over: ", survey.passed_over)
    rows += [(f"size {'x'.join(map(str, one.axes))}", one.example, f"{one.count:,}") for one in survey.sizes[:8]]
    if len(survey.sizes) > 8:
        rest = survey.sizes[8:]
        rows.append((f"{len(rest):,} more sizes", rest[0].example, f"{sum(one.count for one in rest):,}"))
    rows += _rows("format ", survey.formats)
    rows += _rows("pixels ", survey.modes)
    twice = survey.duplicates
    if twice.example:
        rows.append(("the same pixels", " = ".join(twice.example), f"{twice.count:,}"))
    place = str(survey.data.get("path", ""))
    title = f"Data: {survey.data['name']} {short(place)}".rstrip()
    # The title has the place; examples are names in it.
    cells = tuple(
        (what, name.replace(f"{place}/", "").replace(f" in {place}", ""), count) for what, name, count in rows
    )
    return [Grid(title, ("what", "example", "count"), cells, tuple(_notes(survey)), numbers=2), *_classes(survey)]


def _rows(prefix: str, kinds: "Sequence[Kind]") -> list[tuple[str, str, str]]:
    return [(f"{prefix}{each.what}", each.example, f"{each.count:,}") for each in kinds]


def _notes(survey: "Survey") -> list[str]:
    notes = [f"Refused: {problem}." for problem in survey.problems]
    if survey.lowest is not None:
        notes.append(f"Levels reach from {survey.lowest} to {survey.highest} of 0 .. 255.")
    jpeg = sum(each.count for each in survey.formats if each.what in ("JPEG", "MPO"))
    if jpeg:
        notes.append(f"JPEG: {jpeg:,} of the files; their blocks and blurred colours are learned as well.")
    if survey.duplicates.of_two_classes:
        notes.append(f"Also there under another class: {survey.duplicates.of_two_classes:,}, as its pixels tell.")
    if not survey.classes:
        notes.append(f"No classes{': ' if survey.unlabelled else ''}{survey.unlabelled}.")
    return notes


def _classes(survey: "Survey") -> list[Grid]:
    if not survey.classes:
        return []
    classes = survey.classes
    shown = classes if len(classes) <= MOST_CLASSES else classes[:MOST_CLASSES]
    named = any(one.name is not None for one in classes)
    rows = tuple((str(one.label), *((one.name or "",) if named else ()), f"{one.count:,}") for one in shown)
    counts = [one.count for one in classes]
    notes = [f"In all {len(classes):,}, of {min(counts):,} to {max(counts):,} images."]
    missing = classes[-1].label + 1 - sum(one.count > 0 and one.label >= 0 for one in classes)
    if missing:
        notes.append(f"{missing:,} of the classes 0 .. {classes[-1].label:,} have no image.")
    if len(shown) < len(classes):
        notes.append(f"{len(classes) - len(shown):,} more are not shown: --json has them all.")
    return [Grid("Classes", ("class", *(("name",) if named else ()), "images"), rows, tuple(notes), numbers=2)]
