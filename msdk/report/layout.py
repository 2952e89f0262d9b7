"""A table and prose in lines of a width: no number and no word is split for want of room, and nothing is left out.

Where a table is too wide its headings fold, then its words; where that is not enough its columns stack: the first one
stands again at the left of each band. Only a word that is longer than its whole column allows is cut, after a mark
where it has one. No line ends in spaces.
"""

import itertools
import re
from collections.abc import Iterator, Sequence

import attrs
from rich.cells import cell_len, chop_cells

GAP = 2
"""Cells of a terminal between two columns."""

_WORDS = re.compile(r"(?<!\d) +| +(?![%A-Za-zµ])")
"""Where text may fold: not between a number and its unit."""

_LISTED = re.compile(r"(?<= /) +|(?<=,) +")
"""Where a cell of numbers may: after an entry of a list."""

_MARKS = re.compile(r"(?:_|[^\w\s])(?=[^\W\d])")
"""After these a word may be cut that is too long."""


def folded(text: str, width: int, *, number: bool = False) -> list[str]:
    """Text in lines of at most `width` cells.

    Args:
        text: Without line feeds.
        width: At least 2.
        number: Whether the text is a cell of numbers, which folds between the entries of a list alone.
    """
    if cell_len(text) <= width:
        return [text.rstrip()]
    lines: list[str] = []
    line = ""
    for word in (_LISTED if number else _WORDS).split(text.strip()):
        joined = f"{line} {word}" if line else word
        if cell_len(joined) <= width:
            line = joined
            continue
        if line:
            lines.append(line)
        *whole, line = _cut(word, width)
        lines += whole
    return [*lines, line]


def paragraphs(text: str, width: int) -> list[str]:
    """A docstring in lines of at most `width` cells: what was folded at its own width is put together first."""
    lines = text.splitlines()
    own = max(map(len, lines), default=0)
    whole = [""]
    for line, after in itertools.pairwise([*lines, ""]):
        whole[-1] += line
        first = after.partition(" ")[0]
        if first and len(line) + 1 + len(first) > own:
            whole[-1] += " "
        else:
            whole.append("")
    return [line for each in whole[:-1] for line in folded(each, width)]


def _cut(word: str, width: int) -> Iterator[str]:
    """A word in pieces of at most `width` cells, cut after a mark in their second half if there is one."""
    while cell_len(word) > width:
        end = len(chop_cells(word, width)[0])
        space = word.rfind(" ", 0, end + 1)  # between a number and its unit, for want of a better place
        if space < 0:
            end = max((mark.end() for mark in _MARKS.finditer(word, end // 2, end + 1)), default=end)
        yield word[: space if space > 0 else end]
        word = word[space + 1 if space > 0 else end :]
    yield word


@attrs.frozen
class _Column:
    head: str
    cells: tuple[str, ...]
    number: bool
    most: int
    """The longest word that a column of text may need; longer ones are cut."""

    @property
    def natural(self) -> int:
        """Cells that it takes with nothing folded."""
        return max(map(cell_len, (self.head, *self.cells)))

    @property
    def comfortable(self) -> int:
        """Cells with its heading folded, and text in lines of some words."""
        widest = max(map(cell_len, self.cells), default=0)
        return max(self.least, widest if self.number else min(widest, self.most))

    @property
    def least(self) -> int:
        """Cells below which a number or a word would be cut."""
        heads, cells = (
            _WORDS.split(self.head),
            [(_LISTED if self.number else _WORDS).split(each) for each in self.cells],
        )
        longest = max((cell_len(word) for words in (heads, *cells) for word in words), default=0)
        text = 0 if self.number else min(max(map(cell_len, self.cells), default=0), self.most // 2)
        return max(2, text, longest if self.number else min(longest, self.most))


def table(head: Sequence[str], rows: Sequence[Sequence[str]], numbers: int, width: int) -> list[tuple[str, str]]:
    """The lines of a table with the role of each: "head", "rule" or "row".

    Args:
        head: A heading for each column.
        rows: As many cells each.
        numbers: Columns from this one on are numbers, aligned right.
        width: Cells of the terminal.
    """
    columns = [
        _Column(name, tuple(row[index] for row in rows), index >= numbers, max(16, width // 3))
        for index, name in enumerate(head)
    ]
    lines: list[tuple[str, str]] = []
    for band in _bands(columns, width - 1):
        lines += [("", "row")] if lines else []
        lines += _drawn(band, _widths(band, width - 1))
    return lines


def _bands(columns: Sequence[_Column], room: int) -> Iterator[Sequence[_Column]]:
    """The columns that stand side by side; each band begins with the first column."""
    if not columns or _sum([each.least for each in columns]) <= room:
        yield columns
        return
    key, *rest = columns
    band = [key]
    for each in rest:
        if len(band) > 1 and _sum([one.comfortable for one in (*band, each)]) > room:
            yield band
            band = [key]
        band.append(each)
    yield band


def _sum(widths: Sequence[int]) -> int:
    return sum(widths) + GAP * (len(widths) - 1)


def _widths(columns: Sequence[_Column], room: int) -> list[int]:
    """Cells for each column: the least, then what is comfortable, then all, as far as there is room."""
    widths = [each.least for each in columns]
    while _sum(widths) > room and max(widths) > 2:
        widths[widths.index(max(widths))] -= 1
    for wanted in ([each.comfortable for each in columns], [each.natural for each in columns]):
        while _sum(widths) < room:
            narrow = [index for index, each in enumerate(widths) if each < wanted[index]]
            if not narrow:
                break
            widths[min(narrow, key=lambda index: widths[index])] += 1
    return widths


def _drawn(columns: Sequence[_Column], widths: Sequence[int]) -> list[tuple[str, str]]:
    def line(cells: Sequence[str]) -> str:
        padded = (
            " " * (width - cell_len(cell)) + cell if column.number else cell + " " * (width - cell_len(cell))
            for column, width, cell in zip(columns, widths, cells, strict=True)
        )
        return (" " + (" " * GAP).join(padded)).rstrip()

    def lines(cells: Sequence[str], role: str, *, at_foot: bool = False) -> list[tuple[str, str]]:
        parts = [
            folded(cell, width, number=column.number and not at_foot)
            for column, width, cell in zip(columns, widths, cells, strict=True)
        ]
        height = max(map(len, parts), default=0)
        blank = [[""] * (height - len(part)) for part in parts]
        parts = [more + part if at_foot else part + more for part, more in zip(parts, blank, strict=True)]
        return [(line(each), role) for each in zip(*parts, strict=True)]

    rows = zip(*(column.cells for column in columns), strict=True)
    return [
        *lines([column.head for column in columns], "head", at_foot=True),
        ((" " + "─" * _sum(widths)).rstrip(), "rule"),
        *(each for row in rows for each in lines(row, "row")),
    ]
