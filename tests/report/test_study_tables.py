"""Promises of what is told of a study: tables for a terminal of 80 columns, whatever it found."""

from pathlib import Path

import attrs
import pytest

from msdk.report.studies import result_grids
from msdk.studies.collecting import read_result


@pytest.fixture(scope="module")
def demo():
    """The result of `make demo` that docs show."""
    return read_result(Path("docs/studies/demo.json"))


def test_tables_stand_whole_on_80_columns(demo):
    """No table of the demo is split there; all columns stand side by side, and each table has one rule."""
    for grid in result_grids(demo):
        lines = grid.lines(80)
        assert [role for _, role in lines].count("rule") == 1, grid.title
        assert max(len(text) for text, _ in lines) <= 80


def test_every_number_of_a_comparison_is_shown(demo):
    """Verdict, ratio, share and difference of both accounts; what is never is told as such."""
    *_, training, paper = result_grids(demo)
    (row,) = training.rows
    assert row == ("multistage", "no difference", "never (98 to never)", "3 %", "-0.0006 to +0.0154")
    assert (training.notes, len(paper.notes)) == ((), 1)


def test_a_failure_is_told_with_its_trial(demo):
    """Below the arms, with seed and reason."""
    unified, *others = demo.arms
    broken = attrs.evolve(unified.trials[1], state="failed", problem="it is gone")
    trials = (unified.trials[0], broken, unified.trials[2])
    found = attrs.evolve(demo, arms=(attrs.evolve(unified, trials=trials), *others))
    arms = result_grids(found)[0]
    assert "unified, seed 1: it is gone" in arms.notes
    assert arms.rows[0][1] == "2 / 3"
