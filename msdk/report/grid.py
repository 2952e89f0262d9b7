"""A table before it is drawn: for a terminal, a Markdown file, or a program that reads CSV."""

import csv
import html
import io
import re
import shutil

import attrs
from rich.cells import cell_len

from msdk.errors import cut, printable
from msdk.report.layout import folded, table

LONGEST_CELL = 2000
"""Characters; what is longer is cut in its middle."""

PROSE = 100
"""Cells that a line of a title or a note may take where the table is narrower."""


@attrs.frozen
class Grid:
    """A table before it is drawn: cells are text; columns from `numbers` on align right."""

    title: str
    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    notes: tuple[str, ...] = ()
    numbers: int = 1

    def lines(self, width: int) -> list[tuple[str, str]]:
        """For a terminal: lines of at most `width` cells, each with its role, "title", "head", "rule", "row" or "note".

        Nothing is left out and no number is split, see `msdk.report.layout`. Cells are text, never markup.
        """
        body = table(tuple(map(_shown, self.head)), [tuple(map(_shown, row)) for row in self.rows], self.numbers, width)
        prose = min(width, max([PROSE, *(cell_len(line) for line, _ in body)]))
        notes = [line for note in self.notes for line in printable(note, keep="\n").split("\n")]
        return [
            *((line, "title") for line in folded(_shown(self.title), prose)),
            ("", "row"),
            *body,
            *([("", "row")] if notes else []),
            *((line, "note") for note in notes for line in folded(note, prose)),
        ]

    def text(self, width: int = PROSE) -> str:
        """The lines as one text."""
        return "\n".join(line for line, _ in self.lines(width))

    def brief(self) -> str:
        """The title and the table as one text, for a REPL of the terminal's width."""
        width = shutil.get_terminal_size((PROSE, 24)).columns
        return attrs.evolve(self, title=cut(self.title, 200), notes=()).text(max(width, 20))

    def html(self) -> str:
        """For a notebook: a table of text, with nothing of msdk's pages around it."""

        def row(cells: tuple[str, ...], tag: str) -> str:
            sides = ["left" if i < self.numbers else "right" for i in range(len(cells))]
            return "".join(
                f'<{tag} style="text-align: {side}">{_html(cell)}</{tag}>'
                for cell, side in zip(cells, sides, strict=True)
            )

        rows = "".join(f"<tr>{row(cells, 'td')}</tr>" for cells in self.rows)
        notes = "".join(f"<p>{_html(note)}</p>" for note in self.notes)
        head = f"<thead><tr>{row(self.head, 'th')}</tr></thead>"
        return f"<table><caption>{_html(self.title)}</caption>{head}<tbody>{rows}</tbody></table>{notes}"

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


def _html(text: str) -> str:
    return html.escape(_shown(text))
