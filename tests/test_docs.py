"""Promises of the documentation that can be checked: snippets are valid, and tables name what there is."""

import csv
import io
import re
import tomllib
from pathlib import Path

import pytest

import msdk
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
    assert set(tomllib.loads(limits)["budget"]) == {"params", "macs", "flops", "memory"}


def test_csv_columns_are_documented_in_order():
    """The table of columns names each one that a file has, in the file's order."""
    written = rendered(".csv", [msdk.budget(tiny()).as_json()]).decode()
    columns = [name for name in next(csv.reader(io.StringIO(written))) if not name.startswith("operator_")]
    table = BUDGETS.partition("## CSV")[2].partition("`recipe_` columns")[0]
    documented = [
        name
        for row in table.splitlines()
        if row.startswith("| `")
        for name in re.findall(r"`(\w+)`", row.split("|")[1])
    ]
    assert documented == [*columns, "operator_NAME_macs"]
