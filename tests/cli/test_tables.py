"""What commands print fits the terminal: no number and no word is split, no line is too long or ends in spaces."""

import io
import re

import pytest
from commands import quick
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.console import Console

import msdk
from msdk.cli import display
from msdk.cli.options import default_run_dir
from msdk.report import Grid
from msdk.report.layout import folded, paragraphs
from msdk.training import Step
from recipes import tiny

WIDTHS = [60, 80, 100]

NUMBER = st.one_of(
    st.floats(allow_nan=False).map(lambda value: f"{value:.4g}"),
    st.integers(0, 10**9).map(lambda value: f"{value:,} ({value % 100}%)"),
    st.lists(st.floats(0, 1).map(lambda value: f"{value:.4f}"), min_size=2, max_size=6).map(" / ".join),
    st.floats(0, 1).map(lambda value: f"{100 * value:.1f} %"),
    st.just("0.4331 .. inf"),
)
WORD = st.text("abcdeé図", min_size=1, max_size=8)
PROSE = st.lists(st.one_of(WORD, st.floats(0, 1).map(lambda value: f"{value:.5g}")), max_size=12).map(" ".join)
HEAD = st.sampled_from(["params M", "MMACs/train image", "of training", "PFLOPs, paper", "t", "", "active M by stage"])


@st.composite
def grids(draw):
    """Tables of one to nine columns, text on the left and numbers on the right."""
    columns, texts = draw(st.integers(1, 9)), draw(st.integers(1, 3))
    row = st.tuples(*(PROSE if index < texts else NUMBER for index in range(columns)))
    rows = draw(st.lists(row, max_size=4))
    head = draw(st.tuples(*(HEAD for _ in range(columns))))
    return Grid(draw(PROSE), head, tuple(rows), tuple(draw(st.lists(PROSE, max_size=2))), numbers=texts)


@given(grids(), st.sampled_from(WIDTHS))
@settings(suppress_health_check=[HealthCheck.too_slow])  # hypothesis itself, where it has no table of characters yet
@example(Grid("", (), ()), 60)
def test_any_table_fits_any_width(grid, width):
    """Every word and number of the cells stands whole in some line, in the order of its cell; none is left out."""
    lines = [line for line, _ in grid.lines(width)]
    assert all(cell_len(line) <= width and line == line.rstrip() for line in lines)
    shown = " ".join(lines).split()
    for text in (grid.title, *grid.head, *grid.notes, *(cell for row in grid.rows for cell in row)):
        assert set(text.split()) <= set(shown)
    numbers = [cell for row in grid.rows for cell in row[grid.numbers :] if " / " not in cell]
    assert all(any(number in line for line in lines) for number in numbers)


def test_columns_stack_beside_the_first():
    """Where they do not fit side by side, each band begins with the first column, and all rows stand in it."""
    cells = tuple(f"0.{index}23456789" for index in range(8))
    grid = Grid("t", ("recipe", *(f"figure {index}" for index in range(8))), (("a", *cells), ("b", *cells)))
    text = grid.text(60)
    assert re.findall(r"^ recipe", text, re.MULTILINE) == [" recipe"] * 2
    assert re.findall(r"^ [ab] ", text, re.MULTILINE) == [" a ", " b "] * 2
    assert grid.text(150).count("recipe") == 1


@given(st.text(max_size=80), st.integers(2, 40))
def test_folded_text_loses_nothing_but_spaces(text, width):
    """Also a word that is longer than the line is there, cut."""
    text = " ".join(text.split())
    lines = folded(text, width)
    assert "".join("".join(lines).split()) == "".join(text.split())
    assert all(cell_len(line) <= width for line in lines)


def test_a_number_stays_with_its_unit():
    """Neither per cent nor a count leaves its number; a long word is cut after a mark."""
    assert folded("it is about 81 % of all", 14) == ["it is about", "81 % of all"]
    assert folded("recipes/digits/unified.toml", 20) == ["recipes/digits/", "unified.toml"]
    assert paragraphs("One two three four five\nsix.\n\nSource: a.\nSecond: b.", 40) == [
        "One two three four five six.",
        "",
        "Source: a.",
        "Second: b.",
    ]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A folder with a trained run and a recipe, both of four iterations."""
    place = tmp_path_factory.mktemp("run")
    msdk.train(tiny(), place / "run")
    (place / "tiny.toml").write_text(msdk.recipe.to_toml(tiny("budget.macs=1M")))
    return place


RECIPES = ("recipes/digits/unified.toml", "recipes/digits/multistage.toml")
COMMANDS = {
    "list": ("list",),
    "show": ("show", "encoder", "ddpmpp"),
    "show sampler": ("show", "sampler", "predictor-corrector"),
    "doctor": ("plugin", "doctor"),
    "pretrained": ("pretrained", "list"),
    "diff": ("recipe", "diff", *RECIPES),
    "budget": ("budget", "RUN/run", "RUN/tiny.toml"),
    "parts": ("budget", "RUN/tiny.toml", "--by", "part"),
    "operators": ("budget", "RUN/tiny.toml", "--by", "operator"),
    "solve": ("budget", "solve", "RUN/tiny.toml", "--target", "600k"),
    "cluster": ("cluster", "RUN/tiny.toml", "--compare"),
    "calls": ("sample", "RUN/run", "--explain"),
}


@pytest.mark.parametrize("name", COMMANDS)
def test_tables_of_every_command_fit(name, run, capsys, monkeypatch):
    """At 60, 80 and 100 columns, and in a pipe, which has none."""
    shown = []
    show = display.show
    monkeypatch.setattr(display, "show", lambda *grids: (shown.append(grids), show(*grids)))
    words = [word.replace("RUN", str(run)) for word in COMMANDS[name]]
    code, out, err = quick(capsys, monkeypatch, *words, columns=60)
    assert (code, len(shown)) == (0, 1), err
    check(out, shown[0], 60, str(run))
    for width in (80, 100, None):
        if width is None:
            monkeypatch.delenv("COLUMNS")
        else:
            monkeypatch.setenv("COLUMNS", str(width))
        show(*shown[0])
        check(capsys.readouterr().out, shown[0], width or display.PIPE_WIDTH)


def check(out, grids, width, path=""):
    """No trailing space, no line that is too long but for a path to copy, no number or word of a cell split."""
    lines = out.splitlines()
    assert [line for line in lines if line != line.rstrip()] == []
    assert [
        line for line in lines if len(line) > width and not (path and path in line) and not line.startswith("/")
    ] == []
    found = set(out.split())
    for grid in grids:
        for cell in (*grid.head, *(cell for row in grid.rows for cell in row)):
            assert {word for word in cell.split() if len(word) <= 20 or word[0].isdigit()} <= found


def steps(*, every=1, log_every=4, stages=3, iterations=30):
    """What a training tells, step by step, or every so many steps."""
    logged, losses = 0, (float("nan"),) * stages
    for iteration in range(every, iterations + 1, every):
        if iteration % log_every == 0 or iteration == iterations:
            logged, losses = iteration, (iteration / 10_000,) * (stages - 1) + (float("nan"),)
        yield Step(iteration, iterations, 123.4, losses[0], losses, logged=logged)


def test_lines_of_training_are_new(capsys):
    """In a pipe a line has losses that were logged, each only once; the last one is there."""
    with display.training_display() as watch:
        for step in steps():
            watch(step)
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "iteration 4/30  loss by stage 0.0004 / 0.0004 / -  123 images/s"
    assert [line.split()[1] for line in lines] == [f"{each}/30" for each in (4, 8, 12, 16, 20, 24, 28, 30)]


@pytest.mark.parametrize("width", WIDTHS)
def test_progress_keeps_its_counters(width, monkeypatch):
    """However narrow the terminal and however many stages, iteration, rate and share are whole on one line."""
    stream = io.StringIO()
    terminal = Console(file=stream, force_terminal=True, width=width, markup=False, color_system=None)
    monkeypatch.setattr(display, "_console", lambda **_: terminal)
    with display.training_display() as watch:
        for step in steps(stages=12, iterations=450_000, every=150_000):
            watch(step)
    with display.bar() as report:
        report("optimal-denoiser of a name that goes on and on and on", 1, 4)
    text = stream.getvalue()
    assert "450000/450000" in text
    assert "123 images/s" in text
    assert " 25% " in text
    assert "loss" in text or width < 80
    assert all(cell_len(re.sub(r"\x1b\[[\d?;]*[a-zA-Z]", "", line)) <= width for line in re.split(r"[\r\n]", text))


def test_hints_can_be_typed(run, capsys, monkeypatch):
    """A command names the one that is likely to come next, with its paths and --set as a shell reads them."""
    override = 'title="a b"'
    out = quick(capsys, monkeypatch, "recipe", "check", run / "tiny.toml", "--set", override)[1]
    assert out.splitlines()[-1] == f"next: msdk budget {run / 'tiny.toml'} --set '{override}'"
    monkeypatch.chdir(run)
    out = quick(capsys, monkeypatch, "cluster", "tiny.toml", "--strategy", "timestep", "--set", "stages={}")[1]
    assert out.splitlines()[-1].startswith("next: msdk train tiny.toml --set 'stages={}' --set 'stages={ from = ")
    out = quick(capsys, monkeypatch, "budget", "tiny.toml")[1]
    assert out.splitlines()[-1] == "next: msdk train tiny.toml"
    out = quick(capsys, monkeypatch, "budget", "tiny.toml", "--set", override)[1]
    assert out.splitlines()[-1] == f"next: msdk train tiny.toml --set '{override}'"
    for words in (("recipe", "show", "tiny.toml", "--json"), ("budget", "tiny.toml", "--json")):
        assert "next:" not in quick(capsys, monkeypatch, *words)[1]


def test_set_is_blamed_for_its_mistakes(capsys, monkeypatch):
    """The headline says so where all are its own; a tracker that every run has is never proposed."""
    recipe = "recipes/digits/unified.toml"
    words = ("recipe", "check", recipe, "--set", "trackers=[{name='jsonlog'}]", "--set", "training.lrr=1")
    code, _, err = quick(capsys, monkeypatch, *words)
    assert code == 2
    assert f"{recipe}, as --set changes it, has 2 problems" in err
    assert "tensorboard" in err.partition("Known: ")[2]
    assert "jsonl" not in err.replace("jsonlog", "")


def test_a_run_is_called_by_its_recipe(tmp_path, monkeypatch):
    """By folder and name; by the name alone where one works; a file that is just called recipe by its folder."""
    monkeypatch.chdir(tmp_path)
    names = {
        "digits/wide.toml": "digits-wide",
        "wide.toml": "wide",
        "recipe.toml": tmp_path.name,
        "digits/recipe.toml": "digits",
        "digits/base.toml": "digits-base",
    }
    for recipe, name in names.items():
        assert (
            default_run_dir(tmp_path / recipe)
            == default_run_dir(type(tmp_path)(recipe))
            == (type(tmp_path)("runs") / name)
        )
