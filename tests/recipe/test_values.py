"""A recipe is a value: complete once it is loaded, whatever happens to the files that it pointed to."""

import json
import os
from pathlib import Path

import pytest
from commands import quick
from hypothesis import given, settings
from hypothesis import strategies as st

import msdk
from msdk.errors import RecipeError, RunError
from msdk.partition import Partition
from msdk.recipe import Recipe, Stages, load_recipe, recipe_of, to_toml
from msdk.recipe.differences import compare
from msdk.recipe.files import Artefact, File
from msdk.runs import refuse_other_recipe, start_run

EDGES = [0.5, 2.5]
OWN = sorted(
    path
    for path in Path("recipes").rglob("*.toml")
    if not path.stem.startswith(("base", "timm")) and path.parent.name != "studies"
)
"""Shipped recipes that need no plugin."""


def artefact(path, edges):
    """A clustering as `msdk cluster` keeps it, as far as a recipe reads it."""
    path.write_text(json.dumps({"strategies": [{"name": "snr", "edges_ratio": edges}]}), encoding="utf-8")


@pytest.fixture
def pointing(tmp_path):
    """A recipe file whose stages come from a clustering beside it."""
    artefact(tmp_path / "found.json", EDGES)
    path = tmp_path / "recipe.toml"
    base = Path("recipes/digits/multistage.toml").absolute().as_posix()
    path.write_text(f'extends = "{base}"\nstages = {{ from = "found.json" }}\nbudget = {{ compare = [] }}\n')
    return path


@pytest.mark.parametrize("change", [lambda file: artefact(file, [0.1, 9.0]), os.remove])
def test_a_recipe_keeps_the_edges_that_it_was_loaded_with(pointing, tmp_path, change):
    """The clustering is overwritten, or goes: stages, solver, text and comparisons stay what they were."""
    recipe = load_recipe(pointing, ["sampling.steps_per_stage=[2, 2, 2]"])
    text = to_toml(recipe)
    change(tmp_path / "found.json")
    assert recipe.partition() == recipe.solver.partition == Partition(tuple(EDGES))
    assert to_toml(recipe) == text
    (tmp_path / "copy.toml").write_text(text)
    twin = load_recipe(tmp_path / "copy.toml")
    assert twin == recipe
    assert hash(twin) == hash(recipe)
    assert compare(twin, recipe) == []


def test_edges_count_and_not_their_way(pointing):
    """Stages from a file equal those written out; the file's name is remembered; both ways at once are told."""
    read = load_recipe(pointing)
    written = load_recipe(pointing, [f"stages.edges_ratio={EDGES}"])  # [stages] is one choice
    assert read == written
    assert read.stages.ways() == ["from"]
    assert written.stages.ways() == ["edges_ratio"]
    with pytest.raises(RecipeError, match=r"give one of edges_ratio, from, not 2"):
        load_recipe(pointing, [f'stages={{edges_ratio=[1.0, 2.0], from="{pointing.parent / "found.json"}"}}'])


def test_another_clustering_is_another_recipe(pointing, tmp_path):
    """Loaded before and after the file changed, recipes differ in their edges; a run of one is told so by the other."""
    before = load_recipe(pointing)
    start_run(tmp_path / "run", before)
    artefact(tmp_path / "found.json", [0.1, 9.0])
    after = load_recipe(pointing)
    assert before != after
    assert [one.path for one in compare(before, after)] == ["stages.edges_ratio.0", "stages.edges_ratio.1"]
    assert refuse_other_recipe(tmp_path / "run", before) == {}
    changed = refuse_other_recipe(tmp_path / "run", after)
    assert changed == {"stages.edges_ratio.0": (0.5, 0.1), "stages.edges_ratio.1": (2.5, 9.0)}
    lock = json.loads((tmp_path / "run/lock.json").read_text())["stages_from"]
    assert lock["file"] == str(tmp_path / "found.json")


def test_show_says_where_the_edges_are_from(pointing, capsys, monkeypatch):
    """A clustering that has edges and nothing else of what msdk writes is named; the text is a recipe without it."""
    code, out, err = quick(capsys, monkeypatch, "recipe", "show", pointing)
    assert code == 0, err
    assert f"# The stages are those of {pointing.parent / 'found.json'}." in out
    assert "edges_ratio = [\n    0.5,\n    2.5,\n]" in out


def test_bases_are_read_at_loading(tmp_path):
    """What a base says later is not what it said."""
    base, path = tmp_path / "base.toml", tmp_path / "recipe.toml"
    base.write_text(
        Path("recipes/digits/unified.toml")
        .read_text()
        .replace("base.toml", str(Path("recipes/digits/base.toml").absolute()))
    )
    path.write_text('extends = "base.toml"\n')
    recipe = load_recipe(path)
    text = to_toml(recipe)
    base.write_text("nonsense")
    assert to_toml(recipe) == text


overrides = st.fixed_dictionaries(
    {},
    optional={
        "title": st.text(st.characters(codec="utf-8", exclude_categories=["C"])).map(json.dumps),
        "training.lr": st.floats(1e-9, 1).map(repr),
        "training.iterations": st.integers(1, 10**9).map(str),
        "training.ema_decay": st.floats(0, 0.9999).map(repr),
        "training.flip": st.sampled_from(["true", "false"]),
        "training.stage_draw": st.sampled_from(
            ["natural", "uniform", "stratified", '{ name = "curriculum", every = 9 }']
        ),
        "sampling.steps": st.integers(4, 200).map(str),
        "sampling.noise": st.sampled_from(["fresh", "brownian"]),
        "sampling.batch_size": st.integers(1, 512).map(str),
        "sampler": st.sampled_from(["ddim", "heun", "dpmpp-2m", "euler"]).map(lambda name: f'{{name="{name}"}}'),
        "budget.params": st.integers(1, 999).map(lambda count: f'"{count}M"'),
        "budget.compare": st.lists(st.sampled_from(["/a.toml", "/ü/b.toml"]), max_size=2).map(json.dumps),
    },
)


@settings(derandomize=True, deadline=None, max_examples=60)
@given(st.sampled_from(OWN), overrides)
def test_what_is_written_is_what_was_read(tmp_path_factory, path, said):
    """load(to_toml(r)) == r for every shipped recipe under any overrides, with an equal hash and no difference."""
    own = load_recipe(path).schedule.feeds > 1  # samplers of images alone are refused
    recipe = load_recipe(path, [f"{key}={value}" for key, value in said.items() if not (own and key == "sampler")])
    copy = tmp_path_factory.mktemp("copy") / "copy.toml"
    copy.write_text(to_toml(recipe), encoding="utf-8")
    again = load_recipe(copy)
    assert again == recipe
    assert hash(again) == hash(recipe)
    assert compare(again, recipe) == []
    assert to_toml(again) == to_toml(recipe)


@settings(derandomize=True, deadline=None, max_examples=50)
@given(st.lists(st.floats(0.01, 50), unique=True, min_size=1, max_size=4).map(sorted))
def test_stages_from_a_file_are_its_edges(tmp_path_factory, edges):
    """No digit is lost on the way through a clustering, and equal stages have equal hashes."""
    file = tmp_path_factory.mktemp("found") / "found.json"
    artefact(file, edges)
    read, written = Stages(from_=Artefact.read(file)), Stages(edges_ratio=tuple(edges))
    assert read == written
    assert hash(read) == hash(written)


def test_files_are_equal_by_name_and_content(tmp_path):
    """A copy in another folder is the same file; another name or content is another."""
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "part.py").write_text("x = 1\n")
    a, b = (File.read(tmp_path / folder / "part.py") for folder in ("a", "b"))
    assert a == b
    assert hash(a) == hash(b)
    assert a != File(a.path, b"x = 2\n")
    assert a != File(a.path.with_name("other.py"), a.content)


def test_names_work_where_recipes_do(tmp_path):
    """A file or a run folder stands for its recipe; anything else is told."""
    path = "recipes/digits/unified.toml"
    recipe = load_recipe(path)
    assert recipe_of(recipe) is recipe
    assert recipe_of(path) == recipe_of(Path(path)) == recipe
    start_run(tmp_path / "run", recipe)
    assert recipe_of(tmp_path / "run") == recipe
    assert msdk.budget(path).as_json() == msdk.budget(recipe, name=path).as_json()
    assert msdk.budget(tmp_path / "run").params == msdk.budget(recipe).params
    built = msdk.build(path, "meta").recipe
    assert isinstance(built, Recipe)
    assert built == recipe
    ledger = {"images_by_stage": [100], "iteration": 5}
    (tmp_path / "run/ledger.json").write_text(json.dumps(ledger))
    found = msdk.budget(tmp_path / "run").ledger
    assert found is not None
    assert found.images == 100
    with pytest.raises(RunError, match=r"is a folder without a recipe\.toml"):
        msdk.budget(tmp_path)
    with pytest.raises(RecipeError, match="cannot be read"):
        msdk.budget("nowhere.toml")
