"""Promises of tables: the same cells for a terminal, in Markdown and as CSV, and nothing in a cell is markup."""

import csv
import io

from hypothesis import given
from hypothesis import strategies as st

from msdk.report import Grid
from msdk.report.plugins import plugins_grid

CELL = st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=12)


@given(st.lists(st.tuples(CELL, CELL), max_size=5))
def test_csv_reads_back(rows):
    """Commas, quotes and bars in cells survive a round trip through CSV."""
    text = Grid("t", ("a", "b,c"), tuple(rows), ("a note",)).csv()
    assert list(csv.reader(io.StringIO(text))) == [["a", "b,c"], *map(list, rows)]


def test_markdown_keeps_its_columns():
    """A bar in a cell does not end the cell; numbers align right."""
    lines = Grid("Title", ("name", "x"), (("a|b", "1"),), ("note",)).markdown().splitlines()
    assert lines == ["**Title**", "", "| name | x |", "| --- | ---: |", "| a\\|b | 1 |", "", "note"]


def test_a_terminal_shows_brackets_as_they_are():
    """Lists in cells, notes and titles are text, not rich's markup."""
    text = Grid("[t]", ("key", "value"), (("a", "[red]"),), ("[bold] note",)).text()
    assert all(words in text for words in ("[t]", "[red]", "[bold] note"))


def test_a_notebook_shows_text():
    """HTML of a stranger's is escaped in every place of a table."""
    hostile = "<b>&"
    text = Grid(hostile, (hostile, "x"), ((hostile, "1"),), (hostile,)).html()
    assert text.count("&lt;b&gt;&amp;") == 4
    assert "<b>" not in text


def test_plugins_are_a_table():
    """What each gives and costs, figures to the right, and what is wrong with the cure below."""
    parts = [{"kind": "sampler", "name": "a"}, {"kind": "schedule", "name": "b"}]
    finding = {"what": "it imports torch.", "fix": "import it later"}
    known = {"version": "1", "requires": ">=1", "parts": parts, "seconds": 12.3456, "findings": []}
    unknown = {"version": None, "requires": None, "parts": [], "seconds": None, "findings": [finding]}
    grid = plugins_grid([{"name": "good", **known}, {"name": "bad", **unknown}])
    assert [line.strip() for line, role in grid.lines(100) if line and role != "rule"] == [
        "Plugins",
        "plugin  version  for msdk  parts                    import s    state",
        "good    1        >=1       sampler: a, schedule: b     12.35     good",
        "bad     ?        any       none                            -  1 wrong",
        "bad: it imports torch. Fix: import it later.",
    ]
