"""Promises of the documentation that can be checked: snippets are valid, and tables name what there is."""

import csv
import io
import json
import re
import tomllib
from pathlib import Path

import pytest

import msdk
from msdk import testing
from msdk.recipe import LIMITS
from msdk.registry import KINDS, registries
from msdk.registry.describing import describe, kind_page
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
