"""`msdk plugin new`: a package with one part, a test that calls the kit, and a README, which passes as it is."""

import importlib.metadata
import importlib.util
import keyword
import re
import sys
import types
import typing
from collections.abc import Iterable, Mapping
from importlib import resources
from pathlib import Path
from typing import Any

import attrs

from msdk import __version__
from msdk.errors import PluginError
from msdk.recipe import Recipe
from msdk.registry import Kind, Registry, is_base, registries, registry_of
from msdk.registry.discovery import DISTRIBUTION, FORMER, normalised
from msdk.runs.files import write_text

SCAFFOLD = ("hatchling", "pytest", "src", "tests")
"""Names that mean something to what builds and tests a package."""

PYPROJECT = """\
[build-system]
requires = ["hatchling>=1.27"]
build-backend = "hatchling.build"

[project]
name = "{name}"
version = "0.1.0"
description = "{a_words} for msdk"
readme = "README.md"
requires-python = ">=3.11"
# The range of msdk is the promise that this package was tested with it: `msdk plugin doctor` reads it.
dependencies = ["attrs>=24.2", "msdk-diffusion>={least},<{below}", "torch>=2.6"]

# The name on the left is what recipes say; the class is imported when one does, not before.
[project.entry-points."msdk.{kind}"]
{name} = "{package}.{module}:{cls}"

[dependency-groups]
test = ["pytest>=8.2"]

[tool.hatch.build.targets.wheel]
packages = ["src/{package}"]
"""

README = """\
# {name}

{a_words} for [msdk](https://pypi.org/project/msdk-diffusion/).

```
pip install -e . pytest
pytest
msdk show {singular} {name}
```

A recipe then says:

```toml
{usage}
```

`src/{package}/{module}.py` is the place to begin: change it until it is yours, and keep `pytest` green. What the tests
ask for is what msdk relies on. `msdk plugin doctor` says how the installed package looks from outside.
"""

TEST = '''\
"""The laws of msdk that every {words} keeps."""

import pytest

from msdk import testing
from {package}.{module} import {cls}


@pytest.mark.parametrize("law", testing.laws("{singular}"))
def test_{module}_keeps_the_laws(law):
    law({cls}(){options})
'''


def scaffold(name: str, kind: str, folder: Path) -> list[Path]:
    """Writes a package with one part of a kind.

    Args:
        name: Of the distribution and of the part, "my-lab".
        kind: Of the part, in singular or plural.
        folder: Where; it must not exist, or be empty.

    Returns:
        The files.

    Raises:
        UnknownNameError: There is no such kind.
        PluginError: The name or the folder will not do, or the template of the kind cannot be read.
    """
    if not re.fullmatch(r"[a-z][a-z0-9]*(-[a-z0-9]+)*", name):
        raise PluginError(f"'{name}' is no name for a package: use small letters, digits and single hyphens, as my-lab")
    taken = _taken(name)
    if taken is not None:
        raise PluginError(f"the name '{name}' is taken: {taken}. Choose another, as my-{name} or {name}-lab")
    registry = registry_of(kind)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise PluginError(f"{folder} exists: choose another --out, or another name")
    record = registry.record
    module, package, template = record.singular, name.replace("-", "_"), record.template.partition(":")[2]
    code = _code(record, package)
    cls = _class_name(name, template, code.values())
    major, minor = (int(number) for number in __version__.split(".")[:2])
    values = {
        "name": name,
        "package": package,
        "module": module,
        "kind": record.name,
        "singular": record.singular,
        "words": record.words,
        "a_words": f"{'An' if re.match('[aeiou]|lr ', record.words) else 'A'} {record.words}",
        "cls": cls,
        "least": f"{major}.{minor}",
        "below": f"{major}.{minor + 1}",
        "options": record.law_options and f", {record.law_options}",
        "usage": _usage(registry, name),
    }
    files = {
        "pyproject.toml": PYPROJECT.format(**values),
        "README.md": README.format(**values),
        f"tests/test_{module}.py": TEST.format(**values),
        f"src/{package}/__init__.py": f'"""{values["a_words"]} for msdk."""\n',
        f"src/{package}/py.typed": "",
        # MyEncoderNet is named with MyEncoder.
        **{f"src/{package}/{file}.py": re.sub(rf"\b{template}", cls, text) for file, text in code.items()},
    }
    for place, text in files.items():
        (folder / place).parent.mkdir(parents=True, exist_ok=True)
        write_text(folder / place, text)
    return [folder / place for place in files]


def _taken(name: str) -> str | None:
    """Whose name it is, where a package, a part or Python has it: what it would hide, or be hidden by."""
    package = name.replace("-", "_")
    if keyword.iskeyword(package):
        return "it is a keyword of Python, which no module can be called"
    if package in sys.stdlib_module_names:
        return f"Python's standard library has a module '{package}'"
    if name in (DISTRIBUTION, FORMER):
        return "msdk is called that"
    if package in SCAFFOLD:
        return "the package that is written uses it"
    for registry in registries().values():
        for owner in registry.owners(name):
            return f"{owner} has a part '{name}' of {registry.kind}"
    installed = [(normalised(each.name or ""), each.requires or ()) for each in importlib.metadata.distributions()]
    if name in {own for own, _ in installed}:
        return f"the package '{name}' is installed"
    needs = [text for own, requires in installed if own == DISTRIBUTION for text in requires]
    if name in {normalised(re.split(r"[^\w.-]", text)[0]) for text in needs}:
        return f"msdk uses the package '{name}'"  # also where an extra that needs it is not installed
    found = importlib.util.find_spec(package)
    if found is not None and found.origin is not None:  # a folder without code takes no name
        return f"there is a module '{package}' in {Path(found.origin).parent}"
    return None


def _class_name(name: str, template: str, code: Iterable[str]) -> str:
    """What the class of a part is called: wide-net -> WideNetEncoder, and no other name of the code."""
    kind = template.removeprefix("My")
    own = "".join(word.capitalize() for word in name.split("-"))
    cls = own if own.lower().endswith(kind.lower()) else own + kind
    return f"My{cls}" if any(re.search(rf"\b{cls}", text) for text in code) and cls != template else cls


def _code(record: Kind, package: str) -> Mapping[str, str]:
    """Module of the new package -> its code: the template, and the modules beside it that it imports.

    Raises:
        PluginError: The record names a template that is not there.
    """
    template = record.template.partition(":")[0]
    text = _source(template)
    beside = dict.fromkeys(re.findall(rf"\b{re.escape(template)}_(\w+)\b", text))
    code = {record.singular: text, **{name: _source(f"{template}_{name}") for name in beside}}
    return {name: re.sub(rf"\b{re.escape(template)}_(\w+)", rf"{package}.\1", text) for name, text in code.items()}


def _source(module: str) -> str:
    package, _, name = module.rpartition(".")
    try:
        return (resources.files(package) / f"{name}.py").read_text(encoding="utf-8")
    except (ImportError, OSError) as error:
        raise PluginError(f"the template {module} cannot be read: {error}. The kind's record names it.") from error


def _usage(registry: Registry[Any], name: str) -> str:
    """How a recipe names a part of a kind, as TOML; of a kind that only other parts take, its table alone."""
    waiting: list[tuple[str, Any]] = [("", Recipe)]
    for place, cls in waiting:  # those nearest to the top of a recipe first
        for field in attrs.fields(attrs.resolve_types(cls)):
            key = f"{place}{field.name.rstrip('_')}"
            several = typing.get_origin(field.type) is tuple
            for kind in _alternatives(field.type):
                if kind is registry.base():
                    return f'[[{key}]]\nname = "{name}"' if several else f'[{key}]\nname = "{name}"'
                if not several and attrs.has(kind) and not is_base(kind):
                    waiting.append((f"{key}.", kind))
    return f'{registry.singular} = {{ name = "{name}" }}  # a field of a part that takes one'


def _alternatives(kind: Any) -> tuple[Any, ...]:
    """The types that a field may have: of `X | None` X, of `tuple[X, ...]` X."""
    several = typing.get_origin(kind) in (tuple, typing.Union, types.UnionType)
    return typing.get_args(kind) if several else (kind,)
