"""The law of the public surface: plugins import only what docs/contracts.md declares."""

import ast
import importlib
import re
from pathlib import Path

import pytest

import msdk
from msdk.registry import KINDS

ROOT = Path(__file__).parent.parent
SECTION = (ROOT / "docs" / "contracts.md").read_text(encoding="utf-8").partition("### Modules for plugins")[2]
DECLARED = {
    module: re.findall(r"`(\w+)`", names)
    for module, names in re.findall(r"^\| `(msdk[.\w]*)` \| (.+) \|$", SECTION, re.MULTILINE)
    if module not in ("msdk", "msdk.KIND.base")
}
"""Module -> its public names; `msdk` has its own list, and the bases of all kinds a rule."""

PLUGINS = [
    *sorted((ROOT / "plugins").glob("*/src/*/*.py")),
    # What our templates show is what authors will write.
    *sorted((ROOT / "msdk" / "authoring" / "templates").glob("*.py")),
]


def defined(module):
    """The names that a module of msdk gives; what it imports belongs to others, unless it says `X as X`."""
    tree = ast.parse((ROOT / f"{module.replace('.', '/')}.py").read_text(encoding="utf-8"))
    for node in tree.body:
        if isinstance(node, (ast.ClassDef, ast.FunctionDef)):
            yield node.name
        elif isinstance(node, ast.ImportFrom):
            yield from (alias.name for alias in node.names if alias.asname == alias.name)
        elif isinstance(node, ast.Assign):
            yield from (target.id for target in node.targets if isinstance(target, ast.Name))


def is_public(module, name):
    """Whether a plugin may say `from module import name`."""
    if module == "msdk":
        return name in msdk.__all__ or f"msdk.{name}" in DECLARED
    if re.fullmatch(rf"msdk\.({'|'.join(KINDS)})\.base", module):
        return not name.startswith("_") and name in defined(module)
    return name in DECLARED.get(module, ())


def reached(tree):
    """Every name of msdk that a module takes: (module, name), of `import msdk` by its attributes."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            # `import msdk.x` would open everything below it.
            yield from (("", alias.name) for alias in node.names if alias.name.startswith("msdk."))
        elif isinstance(node, ast.ImportFrom) and str(node.module).partition(".")[0] == "msdk":
            yield from ((node.module, alias.name) for alias in node.names)
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "msdk":
            yield "msdk", node.attr


def hidden(source, own=""):
    """What a module's source takes of msdk that is not public; names below `own` are the module's neighbours."""
    found = (each for each in reached(ast.parse(source)) if not (own and each[0].startswith(own)))
    return [f"{module}.{name}" for module, name in found if not is_public(module, name)]


@pytest.mark.parametrize("path", PLUGINS, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_plugin_imports_what_is_public(path):
    """Types alone included: a plugin that our own moves would break is no example of one."""
    assert hidden(path.read_text(encoding="utf-8"), own="msdk.authoring.templates") == []


def test_what_is_declared_is_there():
    """The table is the truth: each module can be imported and has each of its names."""
    assert len(DECLARED) > 5
    for module, names in DECLARED.items():
        assert names, module
        assert [name for name in names if not hasattr(importlib.import_module(module), name)] == []


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("from msdk.encoders.base import Encoder, Shape", []),
        ("from msdk import testing, Recipe", []),
        ("import msdk\nmsdk.budget(None)", []),
        ("import msdk\nmsdk.budgeting.store.keep", ["msdk.budgeting"]),
        ("import msdk.runs", [".msdk.runs"]),
        ("from msdk import budgeting", ["msdk.budgeting"]),
        ("from msdk.runs.files import write_text", ["msdk.runs.files.write_text"]),
        ("from msdk.runs import refuse_other_recipe", ["msdk.runs.refuse_other_recipe"]),
        ("def f():\n    from msdk.decoders.score_sde import DDPM", ["msdk.decoders.score_sde.DDPM"]),
        ("from msdk.encoders.base import abc", ["msdk.encoders.base.abc"]),
    ],
)
def test_the_law_sees_every_way_to_reach_in(line, found):
    """By module, by name, by attribute, inside functions."""
    assert hidden(line) == found
