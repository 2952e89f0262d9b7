"""`import msdk` is light, and every public name is what it says, in whatever order things are imported."""

import ast
import importlib
import inspect
import pkgutil
import subprocess
import sys

import pytest

import msdk
import msdk.errors
from msdk.registry import KINDS

FUNCTIONS = [
    "advise",
    "allow_code",
    "budget",
    "build",
    "cluster",
    "evaluate",
    "load_pretrained",
    "load_recipe",
    "load_run",
    "run",
    "sample",
    "study",
    "train",
]
ERRORS = [name for name, value in vars(msdk.errors).items() if inspect.isclass(value) and issubclass(value, ValueError)]
CLASSES = ["Advice", "Batch", "Budget", "Condition", "Denoiser", "Partition", "Recipe", "Stage", *ERRORS]


@pytest.fixture(scope="module", autouse=True)
def _every_submodule():
    """Imports every submodule first: that binds each as an attribute of msdk, where a public name could hide."""
    for module in pkgutil.walk_packages(msdk.__path__, "msdk."):
        if module.name != "msdk.__main__":  # it runs the command line
            importlib.import_module(module.name)


@pytest.mark.parametrize("name", msdk.__all__)
def test_every_public_name_can_be_had(name):
    """A function is a function, a class a class, and a kind of part its registry: never a module in their place."""
    value = getattr(msdk, name)
    assert inspect.isfunction(value) == (name in FUNCTIONS)
    assert inspect.isclass(value) == (name in CLASSES)
    assert inspect.ismodule(value) == (name in KINDS)
    assert name in dir(msdk)


def test_the_listings_agree():
    """`__all__` has each name once, and type checkers see the same names as programs do."""
    assert sorted(msdk.__all__) == sorted(["__version__", *FUNCTIONS, *CLASSES, *KINDS])
    blocks = [node for node in ast.parse(inspect.getsource(msdk)).body if isinstance(node, ast.If)]
    typed = {alias.asname for node in ast.walk(blocks[0]) if isinstance(node, ast.ImportFrom) for alias in node.names}
    assert typed == set(msdk.__all__) - {"__version__"}


@pytest.mark.parametrize("kind", KINDS)
def test_a_registry_is_its_package(kind):
    """`msdk.encoders.add`, `get`, `names` and `origin` are those of the registry of that kind."""
    package = getattr(msdk, kind)
    assert package.registry.kind == kind
    for verb in ("add", "get", "names", "origin"):
        assert getattr(package, verb) == getattr(package.registry, verb)


def test_an_unknown_attribute_is_an_attribute_error():
    """A misspelt public name fails as Python's own modules do."""
    with pytest.raises(AttributeError, match="module 'msdk' has no attribute 'trian'"):
        _ = msdk.trian


def test_importing_msdk_imports_nothing_heavy():
    """`import msdk`, a listing of its names and its errors cost no torch, no NumPy and no part."""
    code = """
import sys, msdk
dir(msdk), msdk.__version__, msdk.MsdkError
print(sorted(name for name in sys.modules if name.startswith("msdk") or name in ("torch", "numpy", "attrs")))
"""
    measured = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=False)
    assert (measured.stdout, measured.stderr) == ("['msdk', 'msdk.errors', 'msdk.retired', 'msdk.threads']\n", "")
