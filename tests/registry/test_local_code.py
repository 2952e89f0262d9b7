"""Python files that recipes use: nothing runs unasked, mistakes name file and line, and run folders keep the code."""

import json
import sys
from pathlib import Path

import pytest
from commands import command, quick

import msdk
from msdk.cache import fingerprint
from msdk.errors import RecipeError, RunError
from msdk.recipe.differences import compare
from msdk.registry import local_code
from msdk.runs import refuse_other_recipe, run_recipe, start_run
from msdk.training import train

PART = """
import attrs
import msdk
from msdk.weightings.base import Weighting

@msdk.weightings.add("mine")
@attrs.frozen(kw_only=True)
class Mine(Weighting):
    factor: float = 2.0

    def weight(self, schedule, t):
        return self.factor / schedule.ratio(t) ** 2
"""


@pytest.fixture
def write(tmp_path, monkeypatch):
    """Writes the part and a recipe that uses it; forgets both after the test."""
    monkeypatch.setattr(local_code, "_allowed", False)
    monkeypatch.setattr(local_code, "_run", {})
    monkeypatch.setattr(msdk.weightings.registry, "_added", {})

    def write(code=PART, use='["./part.py"]'):
        (tmp_path / "part.py").write_text(code)
        base = Path("recipes/digits/unified.toml").absolute().as_posix()
        path = tmp_path / "r.toml"
        path.write_text(f'extends = "{base}"\nuse = {use}\nweighting = {{ name = "mine", factor = 3.0 }}\n')
        return path

    yield write
    sys.modules.pop("msdk_local_part", None)


def test_nothing_runs_unless_it_is_allowed(write, tmp_path):
    """A stranger's recipe is refused before its code runs, and the message says where the code is and what to do."""
    path = write(f"open({str(tmp_path / 'ran')!r}, 'w')")
    with pytest.raises(RecipeError) as caught:
        msdk.load_recipe(path)
    (problem,) = caught.value.problems
    assert problem.path == "use.0"
    assert problem.source == str(path)
    assert (
        f"would run the code in {tmp_path / 'part.py'}. Read it; if you trust it, add --allow-code" in problem.message
    )
    assert not (tmp_path / "ran").exists()


def test_an_allowed_file_adds_its_parts(write):
    """The part is used like any other, and `use` may also come from a base recipe or --set."""
    path = write()
    msdk.allow_code()
    recipe = msdk.load_recipe(path)
    assert recipe.weighting.factor == 3.0
    assert recipe.weighting.weight(recipe.schedule, 0.5) == pytest.approx(3 / recipe.schedule.ratio(0.5) ** 2)
    assert msdk.weightings.origin("mine").owner == "msdk_local_part"
    assert msdk.load_recipe(path) == recipe


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("x = 1\n1 / 0\n", r"part\.py line 2: ZeroDivisionError: division by zero"),
        ("def f(:\n", r"part\.py line 1: SyntaxError"),
        ("import sys\n\nsys.exit(3)\n", r"part\.py line 3: SystemExit: 3"),
        ("x = 1\n", r"part\.py registers no part: decorate a class with @msdk\.encoders\.add"),
        (PART.replace("(Weighting)", ""), r"the weighting 'mine' .* is not a subclass of msdk\.weightings\.base"),
        (PART.replace('"mine"', '"edm"'), "the weighting name 'edm' is taken"),
    ],
)
def test_files_that_are_wrong_say_where(write, code, words):
    """File, line and reason; the same checks as for installed parts; and nothing of the attempt stays."""
    path = write(code)
    msdk.allow_code()
    with pytest.raises(RecipeError, match=words):
        msdk.load_recipe(path)
    assert "msdk_local_part" not in sys.modules


@pytest.mark.parametrize(
    ("use", "words"),
    [
        ('["./none.py"]', r"none\.py cannot be read: No such file"),
        ('["./r.toml"]', r"r\.toml is no Python file: its name must end in \.py"),
        ("3", "expected a list, got 3"),
        ("[3]", "expected a file name in quotes, got 3"),
    ],
)
def test_what_cannot_be_used_is_told(write, use, words):
    """A missing file, another sort of file, another type."""
    path = write(use=use)
    msdk.allow_code()
    with pytest.raises(RecipeError, match=words):
        msdk.load_recipe(path)


def test_an_edited_file_replaces_its_parts(write):
    """In a session, the last content of a file counts."""
    msdk.allow_code()
    msdk.load_recipe(write())
    recipe = msdk.load_recipe(write(PART.replace("/ schedule", "* schedule")))
    assert recipe.weighting.weight(recipe.schedule, 0.5) == pytest.approx(3 * recipe.schedule.ratio(0.5) ** 2)


def test_a_run_keeps_its_code(write, tmp_path):
    """The run folder has the file and its hash, is loaded without the original, and resumes only with the same code."""
    path = write()
    msdk.allow_code()
    settings = ["training.iterations=1", "training.batch_size=4", "encoder.channels=8", "decoders.0.channels=8"]
    recipe = msdk.load_recipe(path, settings)
    train(recipe, tmp_path / "run")
    (tmp_path / "part.py").unlink()
    assert (tmp_path / "run/code/part.py").read_text() == PART
    lock = json.loads((tmp_path / "run/lock.json").read_text())
    assert list(lock["use"]) == ["part.py"]
    assert lock["plugins"] == {}
    assert run_recipe(tmp_path / "run").weighting == recipe.weighting
    longer = ["training.iterations=2", *settings[1:]]
    assert train(msdk.load_recipe(write(), longer), tmp_path / "run", resume=True).last.iteration == 2
    changed = msdk.load_recipe(write(PART + "# changed\n"), longer)
    with pytest.raises(RunError, match="was trained by another recipe, with other use"):
        train(changed, tmp_path / "run", resume=True)


def test_a_recipe_holds_the_code_that_ran(write, tmp_path):
    """The file is edited after loading: the run folder still gets what ran, and the recipes before and after differ."""
    path = write()
    msdk.allow_code()
    recipe = msdk.load_recipe(path)
    (tmp_path / "part.py").write_text(PART + "# edited\n")
    start_run(tmp_path / "run", recipe)
    assert (tmp_path / "run/code/part.py").read_text() == PART
    (file,) = recipe.use
    assert json.loads((tmp_path / "run/lock.json").read_text())["use"] == {"part.py": file.sha256}
    assert run_recipe(tmp_path / "run").use == recipe.use
    edited = msdk.load_recipe(path)
    assert edited != recipe
    assert [one.path for one in compare(recipe, edited)] == ["use.0"]
    refuse_other_recipe(tmp_path / "run", recipe)
    with pytest.raises(RunError, match="with other use"):
        refuse_other_recipe(tmp_path / "run", edited)


def test_counts_follow_the_code_that_ran(write):
    """What an edited file costs is counted anew in the same process; what was loaded before keeps its count."""
    msdk.allow_code()
    first = msdk.load_recipe(write())
    second = msdk.load_recipe(write(PART + "# edited\n"))
    of_first, of_second = (fingerprint(type(recipe.weighting)) for recipe in (first, second))
    assert of_first != of_second
    again = msdk.load_recipe(write())
    assert fingerprint(type(again.weighting)) == of_first == fingerprint(type(first.weighting))


def test_the_command_line_takes_allow_code(write, capsys, monkeypatch):
    """Any command takes it, before or after its own words."""
    path = write()
    code, _, err = quick(capsys, monkeypatch, "recipe", "check", path)
    assert code == 2
    assert "add --allow-code" in err
    for words in (("recipe", "check", path, "--allow-code"), ("--allow-code", "recipe", "check", path)):
        out, _ = command(*words)
        assert "is a good recipe" in out
