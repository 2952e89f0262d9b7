"""A table before it is drawn: for a terminal, a Markdown file, or a program that reads CSV."""

import csv
import io

import attrs
from rich import box
from rich.markup import escape
from rich.table import Table


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
        table = Table(title=escape(self.title), title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
        table.caption, table.caption_justify = escape("\n".join(self.notes)) or None, "left"
        for index, name in enumerate(self.head):
            table.add_column(
                name, justify="left" if index < self.numbers else "right", overflow="fold", no_wrap=index == 0
            )
        for row in self.rows:
            table.add_row(*map(escape, row))
        return table

    def markdown(self) -> str:
        """For a file. A bar in a cell is escaped, as it would end the cell."""
        lines = [
            _markdown_row(self.head),
            "|" + "".join(" --- |" if i < self.numbers else " ---: |" for i in range(len(self.head))),
            *map(_markdown_row, self.rows),
        ]
        notes = [f"\n{note}" for note in self.notes]
        return "\n".join([f"**{self.title}**\n", *lines, *notes]) + "\n"

    def csv(self) -> str:
        """For a program: the head and the rows, quoted where needed; no title, no notes."""
        return csv_text([self.head, *self.rows])


def csv_text(rows: "list[tuple[object, ...]] | list[tuple[str, ...]]") -> str:
    """Rows as CSV (RFC 4180, but with line feeds alone); None is an empty field."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()


def _markdown_row(cells: tuple[str, ...]) -> str:
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"
