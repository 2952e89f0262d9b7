"""The law of the layout: imports go one way, and what a recipe needs stays without torch."""

import ast
import graphlib
import importlib.metadata
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import msdk
from msdk.registry import KINDS, registries

ROOT = Path(__file__).parent.parent
MODULES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
    for path in sorted((ROOT / "msdk").rglob("*.py"))
}
"""Name of every module -> its file."""

BASES = [f"{kind}.base" for kind in KINDS]

ALLOWED = {
    "errors": [],
    "arguments": ["registry"],
    "batch": [],
    "partition": [],
    "retired": [],
    "threads": [],
    "distributed": [],
    "registry": [],
    "layers": [],
    # Kinds have their rows in their records.
    **{kind: ["registry", *registries()[kind].record.imports] for kind in KINDS},
    # what the verbs work on
    "recipe": [
        "arguments",
        "registry",
        "batch",
        "partition",
        "encoders.adapter",
        "samplers.guidance",
        "samplers.staged",
        "samplers.tracing",
        *BASES,
        "averages",  # of a kind its torch-free registry, none of its parts
        "objectives",
        "optimizers",
    ],
    "cache": ["registry", "recipe"],
    "denoiser": ["arguments", "registry", "recipe", "batch", "partition", "encoders.adapter", *BASES],
    "runs": ["arguments", "registry", "recipe", "denoiser", "partition", "trackers.base"],
    # It names our parts one by one, because it says which of them each published network is, and how a run samples it.
    "pretrained": ["arguments", "recipe", "denoiser", "runs", "partition", "layers", *(f"{kind}.*" for kind in KINDS)],
    # verbs
    "report": ["recipe"],  # for how amounts are written
    "training": [
        "arguments",
        "registry",
        "recipe",
        "cache",  # for where decoded images are kept
        "denoiser",
        "runs",
        "sampling",  # for contact sheets
        "metrics.stage_losses",
        "batch",
        "threads",
        "distributed",
        "trackers",
        *BASES,
    ],
    "budgeting": [
        "arguments",
        "recipe",
        "cache",
        "denoiser",
        "runs",
        "batch",
        "partition",
        "threads",
        "distributed",
        "layers",
        "report",
        "training",
        "clustering",
        "samplers.tracing",
        *BASES,
    ],
    "sampling": [
        "registry",
        "arguments",
        "recipe",
        "denoiser",
        "batch",
        "runs",
        "threads",
        "distributed",
        "samplers",
        "samplers.guidance",
        "samplers.tracing",
        "wrappers.inpaint",
        *BASES,
    ],
    "clustering": [
        "arguments",
        "recipe",
        "cache",
        "denoiser",
        "runs",
        "training",
        "batch",
        "report",
        "partition",
        "distributed",
        "threads",
        "clusterings",
        *BASES,
    ],
    "evaluation": [
        "arguments",
        "recipe",
        "cache",
        "denoiser",
        "runs",
        "batch",
        "distributed",
        "training",  # for how images are held out, and what of them the network sees
        "sampling",
        "preparing",  # for what is known of a data set
        "report",
        "extractors",
        "metrics",
        "metrics.frechet",
        *BASES,
    ],
    "browsing": ["recipe", "runs", "evaluation"],
    "studies": [
        "arguments",
        "registry",
        "recipe",
        "runs",
        "denoiser",
        "partition",
        "distributed",
        "threads",
        "clustering",
        "budgeting",
        "training",
        "sampling",
        "evaluation",
        "metrics",  # for their names and titles
        "metrics.stage_losses",
    ],
    "advising": [
        "arguments",
        "recipe",
        "runs",
        "distributed",
        "clustering",
        "clusterings",  # for their names
        "decoders.base",
        "budgeting",
        "studies",
    ],
    "preparing": [
        "arguments",
        "recipe",
        "runs",
        "datasets",
        "datasets.base",
        "datasets.folder",
        "datasets.listing",
        "datasets.tar",
        "datasets.zip",
    ],
    "launching": [],
    "inspecting": [
        "arguments",
        "batch",
        "recipe",
        "denoiser",
        "runs",
        "threads",
        "training",  # for seeds by content
        "evaluation",  # for what a denoiser is shown
        *BASES,
    ],
    "surgery": ["arguments", "recipe", "runs", "denoiser", "averages.power"],
    # The verbs, then a report of it all.
    "running": [
        "arguments",
        "recipe",
        "evaluation",
        "runs",
        "denoiser",
        "partition",
        "distributed",
        "clustering",
        "budgeting",
        "training",
        "sampling",
        "browsing",
        "report",
    ],
    # for the authors of plugins; the kit looks at parts of every kind, as their users do
    "testing": [
        "registry",
        "recipe",
        "denoiser",
        "partition",
        "runs",
        "training",
        "budgeting",
        "batch",
        "schedules.vp",
        "schedules.vp_discrete",
        "parameterizations.eps",
        *BASES,
    ],
    "authoring": ["registry", "recipe", "runs", "batch", *BASES],
    "cli": [
        "wrappers.inpaint",
        "registry",
        "recipe",
        "denoiser",
        "runs",
        "pretrained",
        "budgeting",
        "clustering",
        "training",
        "sampling",
        "evaluation",
        "extractors",
        "running",
        "preparing",
        "browsing",
        "inspecting",
        "launching",
        "surgery",
        "studies",
        "advising",
        "report",
        "authoring",
        "distributed",
        "threads",
    ],
    "__main__": ["cli"],
    "": ["retired", "registry", "threads"],
}
"""Room (module or package of msdk) -> what it may import at run time: rooms, and of a kind single modules.

Of a kind `x.*` is all of its modules and `x` its registry alone, so that no verb gets at the insides of an encoder. A
room's own modules and `errors` are always allowed; what others may import does not matter. What is imported for types
alone is free.
"""


def unit_of(module):
    """The package or module right below msdk that a module belongs to."""
    return module.removeprefix("msdk").removeprefix(".").partition(".")[0]


def imports(path):
    """Every module that a file imports when it runs; of `from a import b`, `a.b` where that is a module."""
    waiting = [ast.parse(path.read_text(encoding="utf-8"))]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            continue
        waiting += ast.iter_child_nodes(node)
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} has a relative import"
            for alias in node.names:
                full = f"{node.module}.{alias.name}"
                yield full if full in MODULES else str(node.module)


def ours(module):
    """What a module imports of msdk's other rooms, without the prefix."""
    names = (name.removeprefix("msdk.") for name in imports(MODULES[module]) if name.startswith("msdk."))
    return [name for name in names if unit_of(name) not in (unit_of(module), "errors")]


def fits(name, allowed):
    """Whether a module is among those allowed: any module of a room, and of a kind the named ones."""
    room = unit_of(name)
    if room in KINDS:
        return name in allowed or f"{room}.*" in allowed
    return room in {unit_of(each) for each in allowed}


def test_the_table_has_every_room():
    """No module escapes the law, and no row outlives its module."""
    assert {unit_of(module) for module in MODULES} == set(ALLOWED)


@pytest.mark.parametrize("module", MODULES)
def test_imports_go_one_way(module):
    """A module imports of other rooms only what its room's row allows."""
    allowed = ALLOWED[unit_of(module)]
    assert [name for name in ours(module) if not fits(name, allowed)] == []


def test_no_two_rooms_import_each_other():
    """Neither directly nor in a circle: there is an order in which rooms could be built."""
    arrows = {}
    for module in MODULES:
        arrows.setdefault(unit_of(module), set()).update(unit_of(name) for name in ours(module))
    graphlib.TopologicalSorter(arrows).prepare()  # raises CycleError, which names the circle


def test_no_row_allows_what_nobody_imports():
    """The table is the truth, not a wish: each room that a row names is imported there."""
    used = {}
    for module in MODULES:
        used.setdefault(unit_of(module), set()).update(unit_of(name) for name in ours(module))
    spare = {
        room: rooms
        for room, allowed in ALLOWED.items()
        if (rooms := {unit_of(each) for each in allowed} - used.get(room, set()) - set(KINDS))
    }
    assert spare == {}


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
