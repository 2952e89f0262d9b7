"""The law of the layout: imports go one way, and what a recipe needs stays without torch."""

import ast
import functools
import importlib.metadata
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import msdk
from msdk.registry import KINDS

ROOT = Path(__file__).parent.parent
MODULES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
    for path in sorted((ROOT / "msdk").rglob("*.py"))
}
"""Name of every module -> its file."""

BASES = [f"{kind}.base" for kind in KINDS]

ALLOWED = {
    "errors": [],
    "discovery": [],
    "registry": ["discovery"],
    "partition": [],
    "schedules": ["registry"],
    "samplers": [
        "registry",
        "partition",
        *(f"schedules.{name}" for name in ("base", "vp", "sub_vp", "ve", "pfgm", "cld")),
    ],
    "clusterings": ["registry", "partition", "ranks", "schedules.base"],
    "layers": [],
    "encoders": ["registry", "layers.*"],
    "decoders": ["registry", "layers.*", "encoders.base"],
    "autoencoders": ["registry", "layers.*", "encoders.base"],
    "parameterizations": ["registry", "schedules.base"],
    "noise_levels": ["registry", "partition", "schedules.base"],
    "weightings": ["registry", "schedules.base"],
    "optimizers": ["registry"],
    "lr_schedules": ["registry"],
    "datasets": ["registry", "encoders.base"],  # for `Shape`
    "denoiser": ["partition", *BASES],
    "structuring": ["registry", *BASES, *KINDS],  # of a kind its torch-free registry, none of its parts
    "local_code": ["registry"],
    "merging": [],
    "guidance": ["samplers.base", "schedules.base"],
    "quantities": [],
    "wrappers": ["registry", "samplers.base", *(f"schedules.{name}" for name in ("base", "cld", "pfgm"))],
    "tracing": ["guidance", "partition", "samplers.base", "schedules.base"],
    "recipe": [
        "structuring",
        "optimizers",
        "local_code",
        "merging",
        "partition",
        "guidance",
        "quantities",
        "encoders.adapter",
        "samplers.staged",
        *BASES,
    ],
    "weights": [],
    "building": ["recipe", "denoiser", "encoders.adapter", "weights"],
    "offloading": ["building", "weights"],
    "ranks": [],
    "writing": [],
    "checkpoint": ["recipe", "building", "offloading", "writing"],
    # It names our parts one by one, because it says which of them each published network is, and how a run samples it.
    "pretrained": ["recipe", "building", "checkpoint", "layers.*", *(f"{kind}.*" for kind in KINDS)],
    "budgeting": ["building", "quantities", "tracing", "samplers.base", "noise_levels.base"],
    "points": ["datasets.base", "encoders.base", "clusterings.base"],
    "gradients": ["building", "checkpoint", "training.*"],
    "clustering": ["recipe", "building", "tracing", "points", "gradients", "ranks", "report", "clusterings.base"],
    "training": ["building", "checkpoint", "noise_levels.*", "weightings.*", "datasets.*", "budgeting.*"],
    "noise": ["schedules.base"],
    "sampling": ["noise", "guidance", "denoiser", "samplers.base", "wrappers.base", "wrappers.inpaint"],
    "drawing": ["checkpoint", "ranks", "sampling", "tracing", "wrappers.inpaint"],
    "comparing": ["recipe"],
    "report": [],
    "describing": ["registry"],
    # The kit for plugins looks at parts of every kind, as their users do.
    "testing": [
        "building",
        "budgeting.*",
        "describing",
        "structuring",
        "schedules.vp",
        "parameterizations.eps",
        *BASES,
    ],
    "plugins": ["discovery", "registry", "writing", *BASES],
    "schema": ["recipe", "structuring", "describing"],
    "display": ["report", "describing", "pretrained.*", "tracing", "sampling", "training.*", "clustering"],
    "options": ["recipe", "clustering", "display"],
    # The verbs, then how recipes differ, and a report of it all.
    "running": ["budgeting.*", "clustering", "training.*", "drawing", "comparing", "report.*"],
}
"""Unit (module or package of msdk) -> what it may import, by design.md section 1; `x.*` is x and all that is in it.

Its own package and `errors` are always allowed, and so is what the named units may import, unless they are kinds of
parts: a verb may name the types of the layers below it, but no verb gets at the insides of an encoder.
"""
ALLOWED[""] = [f"{unit}.*" for unit in ALLOWED]  # msdk/__init__.py: anything but cli
ALLOWED["cli_budget"] = ALLOWED["cli_plugin"] = ALLOWED[""]
ALLOWED["cli"] = [*ALLOWED[""], "cli_budget", "cli_plugin"]
ALLOWED["__main__"] = ["cli"]


def unit_of(module):
    """The package or module right below msdk that a module belongs to."""
    return module.removeprefix("msdk").removeprefix(".").partition(".")[0]


@functools.cache
def reachable(unit):
    """What a unit may import: its own row, and the rows of the units named there that are no kinds of parts."""
    units = {unit_of(name) for name in ALLOWED[unit]} - set(KINDS)
    return sorted({*ALLOWED[unit], f"{unit}.*", "errors"}.union(*map(reachable, units)))


def imports(path):
    """Every module that a file imports, at whatever depth; of `from a import b`, `a.b` where that is a module."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} has a relative import"
            for alias in node.names:
                full = f"{node.module}.{alias.name}"
                yield full if full in MODULES else str(node.module)


def test_the_table_has_every_unit():
    """No module escapes the law, and no row outlives its module."""
    assert {unit_of(module) for module in MODULES} == set(ALLOWED)


@pytest.mark.parametrize("module", MODULES)
def test_imports_go_one_way(module):
    """A module imports of ours only its own package, `errors`, and what its row allows."""
    allowed = reachable(unit_of(module))
    for imported in imports(MODULES[module]):
        name = imported.removeprefix("msdk.")
        if name != imported:  # `from msdk import __version__` needs no module
            fits = [a for a in allowed if name == a or (a.endswith(".*") and f"{name}.".startswith(a[:-1]))]
            assert fits, f"{module} imports {imported}, but may import only {allowed}"


def test_everything_imported_is_declared():
    """What is imported from outside belongs to the standard library or to a dependency of pyproject.toml."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    needed = [
        *project["dependencies"],
        *(n for extra in project.get("optional-dependencies", {}).values() for n in extra),
    ]
    declared = {re.split(r"[^\w-]", requirement)[0].lower().replace("_", "-") for requirement in needed}
    owners = importlib.metadata.packages_distributions()
    for module, path in MODULES.items():
        for imported in imports(path):
            top = imported.partition(".")[0]
            if top == "msdk" or top in sys.stdlib_module_names:
                continue
            owned = {name.lower().replace("_", "-") for name in owners.get(top, [])}
            assert owned & declared, f"{module} imports {top} of {sorted(owned)}, which pyproject.toml does not declare"


def test_no_module_has_the_name_of_a_public_function():
    """A clash would make the second access return the module; only the registries are both module and public name."""
    assert {unit_of(module) for module in MODULES} & set(msdk.__all__) == set(KINDS)


def test_what_a_recipe_needs_is_free_of_torch():
    """Errors, registries, partition, recipe, all bases and all specs of msdk import neither torch nor NumPy nor PIL."""
    bases = [f"msdk.{base}" for base in BASES]
    code = f"""
import importlib, sys
for module in {["msdk.errors", "msdk.registry", "msdk.partition", "msdk.recipe", *bases]}:
    importlib.import_module(module)
from msdk.registry import registries
for registry in registries().values():
    for name in registry.names():
        if registry.origin(name).owner == "msdk":
            registry.get(name)
print(sorted({{"torch", "numpy", "PIL", "einops", "fvcore"}} & set(sys.modules)))
"""
    measured = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=False)
    assert (measured.stdout, measured.stderr) == ("[]\n", "")
