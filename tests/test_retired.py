"""Retired import paths: they warn, name their successor, and give its names."""

import importlib
import sys

import pytest

from msdk.retired import RETIRED


@pytest.fixture(autouse=True)
def _forgotten():
    for path in RETIRED:
        sys.modules.pop(path, None)


@pytest.mark.parametrize(("path", "successor"), RETIRED.items())
def test_a_retired_path_gives_what_its_successor_has(path, successor):
    """An import of before works, and says where to find its names from now on."""
    with pytest.warns(DeprecationWarning, match="is now msdk") as told:
        old = importlib.import_module(path)
    assert any(str(each.message).startswith(f"{path} is now {successor};") for each in told)
    new = importlib.import_module(successor)
    lazy = getattr(new, "_HOMES", {})
    public = [*lazy, *(name for name, value in vars(new).items() if getattr(value, "__module__", None) == successor)]
    public = [name for name in public if not name.startswith("_")]
    assert public or successor == "msdk.authoring"  # which has modules alone
    assert all(getattr(old, name) is getattr(new, name) for name in public)


@pytest.mark.parametrize(
    ("path", "name"),
    [
        *(("msdk.checkpoint", name) for name in ("Checkpoint", "latest", "load_checkpoint", "load_run", "start_run")),
        ("msdk.checkpoint", "run_recipe"),
        ("msdk.building", "build"),
        ("msdk.structuring", "to_data"),
        ("msdk.weights", "read_weights"),
        ("msdk.writing", "write_json"),
    ],
)
def test_names_that_plugins_import(path, name):
    """What plugins of 0.1 import from where it was is the very object of today; the warning points at their line."""
    with pytest.warns(DeprecationWarning, match=path) as told:
        exec(f"from {path} import {name}", {})
    assert "<string>" in {warning.filename for warning in told}
