"""`msdk plugin new`: a package with one part, a test that calls the kit, and a README, which passes as it is."""

import re
from importlib import resources
from pathlib import Path

from msdk import __version__
from msdk.errors import PluginError
from msdk.registry import registry_of
from msdk.writing import write_text

PYPROJECT = """\
[build-system]
requires = ["hatchling>=1.27"]
build-backend = "hatchling.build"

[project]
name = "{name}"
version = "0.1.0"
description = "A {words} for msdk"
readme = "README.md"
requires-python = ">=3.11"
# The range of msdk is the promise that this package was tested with it: `msdk plugin doctor` reads it.
dependencies = ["attrs>=24.2", "msdk>={least},<{below}", "torch>=2.6"]

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

A {words} for [msdk](https://pypi.org/project/msdk/).

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

USAGE = {
    "encoders": '[encoder]\nname = "{name}"',
    "decoders": '[[decoders]]\nname = "{name}"',
    "schedules": '[schedule]\nname = "{name}"',
    "parameterizations": '[parameterization]\nname = "{name}"',
    "autoencoders": '[autoencoder]\nname = "{name}"',
    "samplers": '[sampler]\nname = "{name}"',
    "wrappers": 'sampling.wrap = [{{ name = "{name}" }}]',
    "clusterings": 'stages = {{ clustering = {{ name = "{name}" }} }}',
    "noise_levels": 'training.noise = {{ name = "{name}" }}',
    "weightings": '[weighting]\nname = "{name}"',
    "optimizers": 'training.optimizer = {{ name = "{name}" }}',
    "lr_schedules": 'training.lr_schedule = {{ name = "{name}" }}',
    "datasets": '[data]\nname = "{name}"',
}

CLASSES = {"lr_schedule": "MyLRSchedule"}
"""Module -> class, where they are spelt differently."""

OPTIONS = {"weightings": ", closed_form=lambda ratio: 5 / (1 + 5 * ratio**2)"}
"""What laws of a kind can be told beyond the part."""


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
        PluginError: The name or the folder will not do.
    """
    if not re.fullmatch(r"[a-z][a-z0-9]*(-[a-z0-9]+)*", name):
        raise PluginError(f"'{name}' is no name for a package: use small letters, digits and single hyphens, as my-lab")
    if name == "msdk":
        raise PluginError("the name 'msdk' is taken: choose another, as my-lab or msdk-mylab")
    registry = registry_of(kind)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise PluginError(f"{folder} exists: choose another --out, or another name")
    module, package = registry.singular, name.replace("-", "_")
    major, minor = (int(number) for number in __version__.split(".")[:2])
    values = {
        "name": name,
        "package": package,
        "module": module,
        "kind": registry.kind,
        "singular": registry.singular,
        "words": registry.singular.replace("_", " "),
        "cls": CLASSES.get(module) or "My" + "".join(word.capitalize() for word in module.split("_")),
        "least": f"{major}.{minor}",
        "below": f"{major}.{minor + 1}",
        "options": OPTIONS.get(registry.kind, ""),
    }
    files = {
        "pyproject.toml": PYPROJECT.format(**values),
        "README.md": README.format(**values, usage=USAGE[registry.kind].format(**values)),
        f"tests/test_{module}.py": TEST.format(**values),
        f"src/{package}/__init__.py": f'"""A {values["words"]} for msdk."""\n',
        f"src/{package}/py.typed": "",
        f"src/{package}/{module}.py": _template(module, package),
    }
    if module in ("encoder", "decoder", "autoencoder"):
        files[f"src/{package}/network.py"] = _template(f"{module}_network", package)
    for place, text in files.items():
        (folder / place).parent.mkdir(parents=True, exist_ok=True)
        write_text(folder / place, text)
    return [folder / place for place in files]


def _template(name: str, package: str) -> str:
    text = (resources.files("msdk.plugins.templates") / f"{name}.py").read_text(encoding="utf-8")
    return re.sub(r"msdk\.plugins\.templates\.\w+_network", f"{package}.network", text)
