"""A table before it is drawn: for a terminal, a Markdown file, or a program that reads CSV."""

import csv
import io
import re

import attrs
from rich import box
from rich.table import Table
from rich.text import Text

from msdk.errors import cut, printable

LONGEST_CELL = 2000
"""Characters; what is longer is cut in its middle."""


@attrs.frozen
class Grid:
    """A table before it is drawn: cells are text; columns from `numbers` on align right."""

    title: str
    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    notes: tuple[str, ...] = ()
    numbers: int = 1

    def rich(self) -> Table:
        """For a terminal. Cells are text, never markup: a list in brackets stays as it is."""
        title = Text(_shown(self.title), style="table.title")
        table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
        if self.notes:
            notes = "\n".join(printable(note, keep="\n") for note in self.notes)
            table.caption, table.caption_justify = Text(notes, style="table.caption"), "left"
        for index, name in enumerate(self.head):
            table.add_column(
                Text(_shown(name)),
                justify="left" if index < self.numbers else "right",
                overflow="fold",
                no_wrap=index == 0,
            )
        for row in self.rows:
            table.add_row(*(Text(_shown(cell)) for cell in row))
        return table

    def markdown(self) -> str:
        """For a file. Cells, title and notes are text, never markup or HTML."""
        lines = [
            _markdown_row(self.head),
            "|" + "".join(" --- |" if i < self.numbers else " ---: |" for i in range(len(self.head))),
            *map(_markdown_row, self.rows),
        ]
        notes = [f"\n{markdown_text(note, keep=chr(10))}" for note in self.notes]
        return "\n".join([f"**{markdown_text(self.title)}**\n", *lines, *notes]) + "\n"

    def csv(self) -> str:
        """For a program: the head and the rows, quoted where needed; no title, no notes."""
        return csv_text([self.head, *self.rows])


def csv_text(rows: "list[tuple[object, ...]] | list[tuple[str, ...]]") -> str:
    """Rows as CSV (RFC 4180, but with line feeds alone); None is an empty field."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()


def _markdown_row(cells: tuple[str, ...]) -> str:
    return f"| {' | '.join(map(markdown_text, cells))} |"


_MARKS = re.compile(r"[\\`*\[\]<>|~&]|(?<!\w)_|_(?!\w)")


def markdown_text(text: str, keep: str = "") -> str:
    """Text for a Markdown file: what would be a mark, a link, HTML or the end of a cell is escaped.

    Args:
        text: What a reader is to see.
        keep: Control characters that may stay.
    """
    return _MARKS.sub(r"\\\g<0>", printable(cut(text, LONGEST_CELL), keep))


def _shown(text: str) -> str:
    return printable(cut(text, LONGEST_CELL))
