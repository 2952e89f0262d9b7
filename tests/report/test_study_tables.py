"""Promises of what is told of a study: tables for a terminal of 80 columns, plots and a page, whatever it found."""

import sys
from pathlib import Path

import attrs
import pytest

from msdk.report import studies
from msdk.report.studies import curves_plot, result_grids, stages_plot, study_page
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


def many(demo, count):
    """The demo with so many arms of long names, each a little worse."""
    unified, staged = demo.arms
    names = [f"multistage: decoders.0.channels = {16 * number}, training.lr = 0.00{number}" for number in range(count)]
    return attrs.evolve(demo, arms=(unified, *(attrs.evolve(staged, name=name) for name in names)), comparisons=())


@pytest.mark.parametrize("count", [0, 1, 11])
@pytest.mark.parametrize("plot", [curves_plot, stages_plot])
def test_every_arm_is_told_apart_within_the_picture(demo, monkeypatch, count, plot):
    """No two arms have one colour and dashes, and no name is cut off by the picture's edge."""
    figures, real = [], studies.drawn

    def kept(size, kind, draw):
        return real(size, kind, lambda figure: (figures.append(figure), draw(figure)))

    monkeypatch.setattr(studies, "drawn", kept)
    found = many(demo, count)
    plot(found, "png")
    (figure,) = figures
    if plot is stages_plot and not count:
        return
    (legend,) = figure.legends
    shown = [(line.get_color(), line.get_linestyle()) for line in legend.get_lines()]
    assert len(shown) == len(set(shown)) == count + (plot is curves_plot)
    for text in legend.get_texts():
        place = text.get_window_extent()  # in the pixels that it was saved with
        assert 0 <= place.x0 < place.x1 <= 160 * figure.get_size_inches()[0], text.get_text()


def test_a_page_needs_no_plots(demo, monkeypatch):
    """Without matplotlib it has the verdict and the tables; with samples it shows them."""
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    page = study_page(demo)
    assert "No difference between multistage and unified" in page
    assert ("<img" in page, "data:image/png" in page) == (False, False)
    assert page.count("<table") == len(result_grids(demo))
    assert study_page(demo, Path("docs/demo.png").read_bytes()).count("data:image/png") == 1
