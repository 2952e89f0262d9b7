"""Promises of the documentation that can be checked: snippets are valid, and tables name what there is."""

import csv
import importlib
import io
import json
import re
import tomllib
from pathlib import Path

import attrs
import pytest
import torch

import msdk
from msdk import testing
from msdk.encoders.base import Level
from msdk.recipe import LIMITS, Recipe
from msdk.recipe.describing import TABLES, describe_table, tables_page
from msdk.registry import KINDS, is_base, registries
from msdk.registry.describing import describe, kind_page
from msdk.registry.discovery import DISTRIBUTION
from msdk.report import rendered
from recipes import tiny

BUDGETS = Path("docs/budgets.md").read_text(encoding="utf-8")


def snippets(language):
    return re.findall(rf"```{language}\n(.*?)```", BUDGETS, flags=re.DOTALL)


def test_workflows_are_yaml():
    """The workflow and the hook are YAML, and both check budgets."""
    yaml = pytest.importorskip("yaml", reason="pyyaml is not installed")
    workflow, hooks = map(yaml.safe_load, snippets("yaml"))
    steps = workflow["jobs"]["budget"]["steps"]
    assert any("msdk budget" in step.get("run", "") and "--check" in step["run"] for step in steps)
    (hook,) = hooks["repos"][0]["hooks"]
    assert hook["entry"] == "msdk budget --check"
    assert re.match(hook["files"], "recipes/cifar10/dpm-unified.toml")


def test_limits_are_toml():
    """The example of limits can be pasted into a recipe."""
    (limits,) = snippets("toml")
    assert set(tomllib.loads(limits)["budget"]) == set(LIMITS)


def test_csv_columns_are_documented_in_order():
    """The table of columns names each one that a file has, in the file's order."""
    written = rendered(".csv", [msdk.budget(tiny())]).decode()
    columns = [name for name in next(csv.reader(io.StringIO(written))) if not name.startswith("operator_")]
    table = BUDGETS.partition("## CSV")[2].partition("`recipe_` columns")[0]
    documented = [
        name
        for row in table.splitlines()
        if row.startswith("| `")
        for name in re.findall(r"`(\w+)`", row.split("|")[1])
    ]
    assert documented == [*columns, "operator_NAME_macs"]


@pytest.mark.parametrize("kind", KINDS)
def test_reference_pages_are_what_msdk_shows(kind):
    """docs/parts/KIND.md is the output of `msdk show KIND`."""
    page = Path(f"docs/parts/{kind}.md").read_text(encoding="utf-8")
    assert page == kind_page(kind), f"run: msdk show {kind} > docs/parts/{kind}.md"


def test_every_key_of_a_recipe_has_its_meaning():
    """docs/parts/tables.md is the output of `msdk show tables`, and no key of any table lacks a meaning."""
    assert Path("docs/parts/tables.md").read_text(encoding="utf-8") == tables_page(), "run: msdk show tables"
    assert all(attrs.has(cls) for cls in TABLES.values())
    for name in TABLES:
        table = describe_table(name)
        assert json.dumps(dict(table.as_json()))
        assert [field.name for field in table.fields if not field.help] == []
        documented = re.findall(r"^\s{8}(\w+): ", TABLES[name].__doc__, flags=re.MULTILINE)
        assert [key.rstrip("_") for key in documented] == [field.name for field in table.fields]


def test_every_table_that_is_no_part_is_shown():
    """Whatever class a recipe holds that no registry names is in the page of tables."""
    own = {field.type for field in attrs.fields(Recipe) if attrs.has(field.type) and not is_base(field.type)}
    assert own <= set(TABLES.values())


@pytest.mark.parametrize("kind", KINDS)
def test_every_part_can_be_shown(kind):
    """What `msdk show --json` prints of each part is JSON."""
    for name in registries()[kind].names():
        assert json.dumps(dict(describe(kind, name).as_json()))


def test_plugins_page_names_every_law():
    """The table of laws is that of the kit, kind by kind."""
    page = Path("docs/plugins.md").read_text(encoding="utf-8")
    for kind in KINDS:
        laws = ", ".join(law.__name__.replace("_", " ") for law in testing.laws(kind)[2:])
        assert f"| {kind} | {laws} |" in page
    common = ", ".join(law.__name__.replace("_", " ") for law in testing.laws("encoder")[:2])
    assert f"| all | {common} |" in page


def test_the_distribution_is_called_by_its_name():
    """On the package index `msdk` is somebody else's: no hint, dependency, scaffold or page makes pip install that."""
    assert tomllib.loads(Path("pyproject.toml").read_text())["project"]["name"] == DISTRIBUTION
    former = re.compile(
        r"pip install (?:-\S+ )*['\"]?msdk(?![-\w])|\bmsdk\[\w+\]|[\"']msdk *[<>=~]|pypi\.org/project/msdk/"
    )
    files = [file for suffix in ("md", "toml") for file in Path().glob(f"*.{suffix}")]
    for room in ("msdk", "plugins", "docs", "recipes", "benchmarks"):
        files += [file for suffix in ("py", "toml", "md", "html") for file in Path(room).rglob(f"*.{suffix}")]
    assert {str(path): found for path in files if (found := former.findall(path.read_text(encoding="utf-8")))} == {}
    for plugin in Path("plugins").glob("*/pyproject.toml"):
        needs = tomllib.loads(plugin.read_text())["project"]["dependencies"]
        assert any(need.startswith(f"{DISTRIBUTION}>=") for need in needs), plugin


def test_the_conditional_example_works(tmp_path, monkeypatch):
    """The encoder of docs/plugins.md keeps the laws, has the sizes of its table, and is told classes."""
    section = Path("docs/plugins.md").read_text(encoding="utf-8").partition("## Features and classes")[2]
    code, recipe = re.findall(r"```(?:python|toml)\n(.*?)```", section, flags=re.DOTALL)[:2]
    (tmp_path / "conditional_example.py").write_text(code)
    (tmp_path / "recipe.toml").write_text(recipe)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(msdk.encoders.registry, "_added", {})
    encoder = importlib.import_module("conditional_example").Conditional
    testing.check("encoder", encoder(channels=16))

    info = encoder().info((3, 32, 32))
    assert (list(info.levels), info.bottom) == ([Level(1, (32,)), Level(2, (64, 64))], 64)
    assert (info.embedding, info.classes) == (32, 10)
    found = encoder().build((3, 32, 32))(torch.zeros(2, 3, 32, 32), torch.zeros(2))
    table = {
        name: eval(shape.replace("batch", "2")) for name, shape in re.findall(r"\| `(\w+)` \| (\[[^]]+\])", section)
    }
    assert {name: list(getattr(found, name).shape) for name in table} == table
    assert [list(skip.shape) for skip in found.skips] == [[2, 32, 32, 32], [2, 64, 16, 16], [2, 64, 16, 16]]

    small = ["training.iterations=2", "training.batch_size=8", "sampling.steps=2", "sampling.images=2"]
    msdk.train(msdk.load_recipe(tmp_path / "recipe.toml", small), tmp_path / "run")
    denoiser = msdk.load_run(tmp_path / "run")
    drawn = [msdk.sample(denoiser, seeds=[0], label=label) for label in (3, 4)]
    assert not torch.equal(*drawn)
    x = torch.randn(2, *denoiser.shape)
    seven, four = (denoiser(x, 0.5, torch.tensor([-1, label])) for label in (7, 4))
    assert torch.equal(seven[0], four[0])
    assert not torch.equal(seven[1], four[1])
    assert torch.allclose(seven[0], denoiser(x, 0.5)[0], atol=1e-6)  # no class is that of -1


CHECKED = ("objectives", "parameterizations", "noise_levels", "weightings", "schedules", "lr_schedules", "combinations")


@pytest.mark.parametrize("kind", CHECKED)
def test_every_part_of_a_loss_says_how_it_was_checked(kind):
    """The table of parity has a row for each built-in part under its kind, with source, check and number; no others."""
    text = Path("docs/objectives.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\|.*", text.partition("## What was checked")[2].partition("##")[0], re.MULTILINE)
    titles = {"noise_levels": "noise levels", "lr_schedules": "learning rates"}
    titles["combinations"] = "combinations of gradients"
    found, here = set(), False
    for row in rows:
        cells = [cell.strip() for cell in row.strip("|").split("|")]
        if cells[0].startswith("**"):
            here = cells[0] == f"**{titles.get(kind, kind)}**"
        elif here and cells[0].startswith("`"):
            assert len(cells) == 4
            assert all(cells)
            found |= set(re.findall(r"`([\w-]+)`", cells[0]))
    registry = registries()[kind]
    assert found == {name for name in registry.names() if registry.origin(name).owner == "msdk"}
