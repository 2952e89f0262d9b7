"""Whatever strangers write in titles, paths and names is text on the terminal: no markup, no control characters."""

import ast
import html
import io
import unicodedata
from pathlib import Path

import pytest
from commands import quick
from hypothesis import given
from hypothesis import strategies as st
from installed import dist_info, python
from rich.console import Console

from msdk.cli import display
from msdk.errors import DataError, Problem, RecipeError, cut, printable, quoted
from msdk.recipe import to_toml
from msdk.report import Grid
from msdk.report.grid import markdown_text
from recipes import tiny

HOSTILE = "[/]$^{$x[bold red]y:smile:\x1b[31m\x1b]0;pwned\x07\u202ez"
SHOWN = r"[/]$^{$x[bold red]y:smile:\u001b[31m\u001b]0;pwned\u0007\u202ez"
ROOT = Path(__file__).parents[2]


def steers(text):
    """The control characters and turns of direction in a text, but for line feeds."""
    return [c for c in text if (unicodedata.category(c) in ("Cc", "Cs") and c != "\n") or c in "\u202e\u2066"]


@pytest.fixture
def hostile(tmp_path, monkeypatch):
    """A folder with a recipe that trains in a moment, whose title and file have a hostile name."""
    monkeypatch.chdir(ROOT)
    recipe = to_toml(tiny("training.iterations=2", "sampling.images=1", "sampling.steps=3"))
    monkeypatch.chdir(tmp_path)
    file = tmp_path / f"{HOSTILE}.toml"
    title = HOSTILE.replace("\x1b", "\\u001b").replace("\x07", "\\u0007")
    lines = [line for line in recipe.splitlines() if not line.startswith("title =")]
    file.parent.mkdir()
    file.write_text(f'title = "{title}"\n' + "\n".join(lines))
    return f"{HOSTILE}.toml"


def test_every_command_shows_a_hostile_name_as_text(hostile, capsys, monkeypatch, tmp_path):
    """Check, show, diff, budget, solve, cluster, train, sample and run show it whole, and none fails after its work."""
    commands = {
        "check": ("recipe", "check", hostile),
        "show": ("recipe", "show", hostile),
        "diff": ("recipe", "diff", hostile, hostile, "--set", "training.lr=0.1"),
        "budget": ("budget", hostile, "--out", f"{HOSTILE}.md"),
        "plots": ("budget", hostile, "--out", "plot.png", "--out", "page.html"),
        "solve": ("budget", "solve", hostile, "--target", "600k", "--out", f"{HOSTILE}-solved.toml"),
        "cluster": ("cluster", hostile, "--strategy", "timestep"),
        "train": ("train", hostile, "--out", f"{HOSTILE}-run"),
        "sample": ("sample", f"{HOSTILE}-run", "--seeds", "0"),
        "run": ("run", hostile, "--out", f"{HOSTILE}-all"),
        "exists": ("train", hostile, "--out", f"{HOSTILE}-run"),
        "missing": ("recipe", "check", f"{HOSTILE}-none.toml"),
        "override": ("recipe", "check", hostile, "--set", f"{HOSTILE}=1"),
        "unknown": ("show", "encoder", HOSTILE),
        "plugin": ("plugin", "new", "my-lab", "--kind", "sampler", "--out", f"{HOSTILE}-lab"),
    }
    for name, words in commands.items():
        code, out, err = quick(capsys, monkeypatch, *words)
        assert code == (2 if name in ("exists", "missing", "override", "unknown") else 0), (name, err)
        assert steers(out + err) == [], name
        assert SHOWN.rpartition("/")[2] in out + err, (name, out + err)  # default names take the last folder
    assert SHOWN in html.unescape((tmp_path / "page.html").read_text())
    assert steers((tmp_path / "page.html").read_text()) == []
    for page in (f"{HOSTILE}.md", f"{HOSTILE}-all/report.md"):
        text = (tmp_path / page).read_text()
        assert steers(text) == []
        assert markdown_text(HOSTILE) in text


@pytest.mark.parametrize(("words", "code"), [(("list", "samplers"), 0), (("plugin", "doctor"), 1)])
def test_names_of_plugins_are_text(words, code, tmp_path):
    """A part and a package with hostile names are listed and examined as they are called."""
    dist_info(tmp_path, "evil", "[msdk.samplers]\nx[/y][red]\x1b[31m = nowhere:Evil\n", version="[b]1")
    done = python("-m", "msdk", *words, path=[ROOT, tmp_path])
    assert done.returncode == code, done.stderr
    assert steers(done.stdout + done.stderr) == []
    assert r"x[/y][red]\u001b[31m" in done.stdout


def test_progress_and_spinners_are_text(monkeypatch):
    """Where stderr is a terminal, the names of work are no markup either."""
    stream = io.StringIO()
    terminal = Console(file=stream, force_terminal=True, width=120, markup=False, emoji=False, color_system=None)
    monkeypatch.setattr(display, "_console", lambda **_: terminal)
    with display.spinner(f"counting {HOSTILE}") as say:
        say(f"simulating {HOSTILE}")
    with display.bar() as report:
        report(HOSTILE, 0, 2)
        report(HOSTILE, 1, 2)
    assert "\x1b]0;" not in stream.getvalue()
    assert SHOWN[:40] in stream.getvalue()


@given(st.text(st.characters(exclude_categories=[]), max_size=40))
def test_text_is_printable(text):
    """No control character is left, doing it twice changes nothing, and any stream of UTF-8 takes it."""
    shown = printable(text)
    assert steers(shown) == []
    assert "\n" not in shown
    assert printable(shown) == shown
    shown.encode()
    assert printable("é ﬁ 図 \N{ZERO WIDTH JOINER}\n", keep="\n") == "é ﬁ 図 \N{ZERO WIDTH JOINER}\n"


def test_errors_are_printable_in_python_too():
    """Their texts are escaped, lines stay; a recipe's problems are told up to a number, each cut to a length."""
    assert str(DataError("a\x1b[31m\nb")) == "a\\u001b[31m\nb"
    many = RecipeError("r\x1b.toml", [Problem(f"k{i}" * 1000, "m" * 100_000, "s\n") for i in range(1000)])
    assert len(many.problems) == 1000
    assert len(str(many)) < 700_000
    assert str(many).startswith("r\\u001b.toml has 1,000 problems\n")
    assert str(many).endswith("and 900 more")


@pytest.mark.parametrize(
    "value",
    ["x" * 10**6, 1 << 10**6, [1 << 10**6] * 10**5, {"a": ["b" * 10**6] * 100}],
    ids=["text", "int", "list", "table"],
)
def test_quoted_values_are_cut(value):
    """A value in a message has a length that can be read, also where Python cannot write it."""
    assert len(quoted(value)) <= 500
    assert quoted(12.5) == "12.5"
    assert quoted("a") == "'a'"
    for short in ({1}, frozenset({"a"}), [1, [2]], (1,), {"a": None}, True):  # of every built-in kind, as Python does
        assert quoted(short) == repr(short)
    assert (cut("abcdefghij", 9), cut("abc", 9)) == ("abc...hij", "abc")


def test_markdown_holds_text_alone():
    """Links, HTML, emphasis and code of a stranger are escaped in report.md and in tables."""
    hostile = "[a](javascript:b) <script> `c` *d* _e_ snake_case |f| &lt;"
    escaped = r"\[a\](javascript:b) \<script\> \`c\` \*d\* \_e\_ snake_case \|f\| \&lt;"
    assert markdown_text(hostile) == escaped
    text = Grid(hostile, (hostile, "x\ny"), ((hostile, "1\n2"),), (hostile,)).markdown()
    assert text.splitlines()[0] == f"**{escaped}**"
    assert text.splitlines()[2:5] == [f"| {escaped} | x\\\\u000ay |", "| --- | ---: |", f"| {escaped} | 1\\\\u000a2 |"]


def calls(path):
    """Names of what a module calls and imports."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func)
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield str(node.module)


@pytest.mark.parametrize("path", sorted((ROOT / "msdk/cli").glob("*.py")), ids=lambda path: path.stem)
def test_all_printing_goes_through_one_module(path):
    """No command prints, writes to stdout or imports rich by itself: msdk/cli/display.py makes text safe."""
    found = set(calls(path))
    assert not {name for name in found if name.startswith("rich.markup") or "from_markup" in name}
    if path.stem != "display":
        assert not {name for name in found if name in ("print", "sys.stdout.write", "sys.stderr.write")}
        assert not {name for name in found if name.partition(".")[0] == "rich" or name.endswith(".print")}
