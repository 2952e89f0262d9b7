"""The schema of recipe files agrees with the reader of recipe files, on what is good and on what is wrong."""

import json
import subprocess
import sys
import tomllib
from pathlib import Path

import jsonschema
import pytest

from msdk.recipe.schema import recipe_schema
from msdk.registry import KINDS, Origin, registries

RECIPES = sorted(path for path in Path("recipes").rglob("*.toml") if path.parent.name != "studies")
GOOD = tomllib.loads(Path("recipes/cifar10/dpm-multistage.toml").read_text())


@pytest.fixture(scope="module")
def validator():
    schema, broken = recipe_schema()
    assert broken == []
    jsonschema.Draft7Validator.check_schema(schema)
    return jsonschema.Draft7Validator(schema)


@pytest.mark.parametrize("path", RECIPES, ids=str)
def test_every_shipped_file_is_valid(validator, path):
    """Also those that only change what they extend."""
    validator.validate(tomllib.loads(path.read_text()))


@pytest.mark.parametrize(
    "wrong",
    [
        {"trainig": {}},
        {"training": {"batchsize": 3}},
        {"training": {"batch_size": 0}},
        {"training": {"batch_size": "many"}},
        {"training": {"betas": [0.9]}},
        {"training": {"precision": "fp8"}},
        {"training": {"noise": {"name": "edmm"}}},
        {"encoder": {"name": "ddpmp"}},
        {"encoder": {"name": "ddpmpp", "chanels": 3}},
        {"decoders": [{"name": "ddpmpp", "chanels": 3}]},
        {"decoders": {"name": "ddpmpp"}},
        {"sampler": "huen"},
        {"sampling": {"wrap": ["clipp"]}},
        {"training": "edm"},
        {"stages": {"clustering": {"name": "snr", "draws": 3}}},
        {"sharing": "some"},
        {"extends": 3},
    ],
    ids=str,
)
def test_mistakes_are_marked(validator, wrong):
    """Unknown keys, wrong types, names and bounds, at any depth."""
    with pytest.raises(jsonschema.ValidationError):
        validator.validate({**GOOD, **wrong})


def test_names_of_parts_stand_for_their_tables(validator):
    """Also in lists."""
    validator.validate({**GOOD, "sampler": "heun", "training": {"noise": "edm"}, "sampling": {"wrap": ["clip"]}})


def test_every_part_is_there(validator):
    """All names that recipes may use of all kinds, plugins' too, each with its own fields and what they mean."""
    definitions = validator.schema["definitions"]
    for kind in KINDS:
        names = registries()[kind].choices()
        assert definitions[kind]["properties"]["name"]["enum"] == names
        assert {f"{kind}/{name}" for name in names} <= set(definitions)
    field = definitions["clusterings/optimal-denoiser"]["properties"]["alpha"]
    assert field == {
        "type": "number",
        "exclusiveMinimum": 0,
        "maximum": 1,
        "description": "Least mean similarity inside the outer stages.",
        "default": 0.9,
    }


def test_a_broken_plugin_costs_only_itself(monkeypatch):
    """A part that cannot be imported is left out, and why is told."""
    monkeypatch.setattr(
        "msdk.registry.lookup.installed_parts",
        lambda: ({"samplers": [Origin("bad", "my-lab", "no_such:Part", "1")]}, []),
    )
    schema, broken = recipe_schema()
    (reason,) = broken
    assert reason.startswith("'bad' of the installed package 'my-lab' cannot be loaded from no_such:Part")
    assert "samplers/bad" not in schema["definitions"]
    assert "samplers/ddim" in schema["definitions"]


def test_the_command_prints_it_without_torch():
    """Editors call it often."""
    lines = (
        "import sys",
        "sys.argv[1:] = ['recipe', 'schema']",
        "from msdk.cli import main",
        "try: main()",
        "finally: print('torch' in sys.modules, file=sys.stderr)",
    )
    code = "\n".join(lines)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert json.loads(done.stdout)["title"] == "msdk recipe"
    assert done.stderr == "False\n"
