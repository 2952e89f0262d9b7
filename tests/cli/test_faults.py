"""Faults of plugins: an exit code of their own, whose they are and where, and a trace in a file."""

import itertools
import json
import re
from pathlib import Path

import pytest
from commands import quick
from installed import dist_info

from msdk.registry.discovery import scanned

NUMBERS = itertools.count()

RECIPE = """
data = { name = "digits" }
encoder = { name = "lab", channels = 8 }

[[decoders]]
name = "ddpmpp"
channels = 8
channel_mult = [1, 1]
groups = 4

[training]
iterations = 1
batch_size = 4
"""

MODULE = """
import attrs
from msdk.encoders.base import Encoder, FeatureInfo, Level

@attrs.frozen(kw_only=True)
class Lab(Encoder):
    '''A laboratory.

    Args:
        channels: Width.
    '''

    channels: int = attrs.field(default=8)

    @channels.validator
    def _fits(self, attribute, value):
        VALIDATE

    def info(self, shape):
        INFO
        return FeatureInfo((Level(1, (self.channels,)), Level(2, (self.channels,))), self.channels, 8)

    def build(self, shape):
        from torch import nn
        from msdk.encoders.base import Features

        class Net(nn.Module):
            def __init__(self, colours, width):
                super().__init__()
                self.first, self.second = nn.Conv2d(colours, width, 3, 1, 1), nn.Conv2d(width, width, 3, 2, 1)
                self.embed = nn.Linear(1, 8)

            def forward(self, x, c_noise, label=None, augment=None):
                h = self.first(x)
                FORWARD
                return Features((h, self.second(h)), self.second(h), self.embed(c_noise.to(x.dtype)[:, None]))

        BUILD
        return Net(shape[0], self.channels)
"""


@pytest.fixture
def lab(tmp_path, monkeypatch, capsys):
    """Installs a package whose encoder does as told, and runs a command of msdk on a recipe with it."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    monkeypatch.chdir(tmp_path)

    def run(*arguments, module=MODULE, **does):
        for place in ("VALIDATE", "INFO", "FORWARD", "BUILD"):
            module = module.replace(place, does.get(place, "pass"))
        (tmp_path / "site").mkdir()
        name = f"lab_{next(NUMBERS)}"  # modules stay imported
        (tmp_path / "site" / f"{name}.py").write_text(module)
        dist_info(tmp_path / "site", "lab-lab", f"[msdk.encoders]\nlab = {name}:Lab\n", version="1.2")
        (tmp_path / "r.toml").write_text(RECIPE)
        monkeypatch.syspath_prepend(str(tmp_path / "site"))
        scanned.cache_clear()
        return quick(capsys, monkeypatch, *arguments)

    yield run
    scanned.cache_clear()


@pytest.mark.parametrize(
    ("does", "command", "place", "error"),
    [
        ({"INFO": "raise TypeError('boom')"}, ("recipe", "check"), "Lab.info", "TypeError: boom"),
        ({"INFO": "raise ValueError('boom')"}, ("recipe", "check"), "Lab.info", "ValueError: boom"),
        ({"INFO": "raise SystemExit(0)"}, ("recipe", "check"), "Lab.info", "SystemExit: 0"),
        ({"VALIDATE": "value.missing"}, ("recipe", "check"), "Lab._fits", "has no attribute 'missing'"),
        ({"BUILD": "import no_such_module"}, ("train",), "Lab.build", "No module named 'no_such_module'"),
        ({"FORWARD": "h = h @ h[:, :, :3]"}, ("train",), "Net.forward", "RuntimeError"),
        ({"FORWARD": "{}['x']"}, ("budget",), "Net.forward", "KeyError: 'x'"),
    ],
    ids=range(7),
)
def test_a_fault_is_that_of_its_plugin(lab, tmp_path, does, command, place, error):
    """Exit code 3; plugin, class, method, file and line are named; the trace is in the file that is named."""
    code, out, err = lab(*command, "r.toml", **does)
    assert (code, out) == (3, "")
    assert error in err
    assert re.search(rf"a fault of the plugin 'lab-lab' 1\.2 in (\S+\.)?{place} \(lab_\d+\.py line \d+\)", err), err
    trace = Path(re.search(r"its trace is in (\S+)", err)[1])
    assert trace.parent == tmp_path
    assert "Traceback (most recent call last)" in trace.read_text()
    assert re.search(r"lab_\d+\.py", trace.read_text())
    assert "Traceback" not in err


@pytest.mark.parametrize(
    ("module", "told"),
    [
        ("import no_such_module", "ModuleNotFoundError: No module named 'no_such_module'"),
        ("import sys; sys.exit(0)", "SystemExit: 0"),
        ("import os; os._exit(0)", "it ends the process by os._exit(0)"),
        ("class Lab: pass", "is not a subclass of msdk.encoders.base.Encoder"),
    ],
    ids=range(4),
)
@pytest.mark.parametrize("command", [("recipe", "check", "r.toml"), ("show", "encoder", "lab", "--json")])
def test_what_cannot_be_imported_is_its_plugins_fault(lab, module, told, command):
    """Whatever asks for it."""
    code, out, err = lab(*command, module=module)
    assert (code, out) == (3, "")
    assert told in err
    assert "a fault of the plugin 'lab-lab' 1.2" in err


@pytest.mark.parametrize(
    ("module", "told"),
    [
        (MODULE.replace("def info", "def inform"), "Lab of the plugin 'lab-lab' 1.2 lacks info"),
        (MODULE.replace("@attrs.frozen(kw_only=True)", ""), "Lab of the plugin 'lab-lab' 1.2 is no attrs class"),
        (MODULE.replace("return FeatureInfo", "return dict(a=1); return FeatureInfo"), "returns dict, and must return"),
    ],
    ids=["abstract", "plain", "dict"],
)
def test_what_is_no_part_is_its_plugins_fault(lab, module, told):
    """It is an encoder by name alone."""
    code, out, err = lab("recipe", "check", "r.toml", module=module.replace("@channels.validator", "@staticmethod"))
    assert (code, out) == (3, "")
    assert told in err
    assert "a fault of the plugin 'lab-lab' 1.2" in err


@pytest.mark.parametrize("module", ["class Lab: pass", MODULE.replace("channels: int", "channels: 'no.Such'")])
def test_a_schema_is_made_without_it(lab, module):
    """Editors keep the other parts; who is left out is told."""
    code, out, err = lab("recipe", "schema", module=module)
    assert code == 0
    assert "encoders/lab" not in json.loads(out)["definitions"]
    assert "msdk: left out:" in err
    assert "lab-lab" in err


def test_what_it_prints_is_told_apart(lab):
    """A document of --json stays one."""
    code, out, err = lab("show", "encoder", "lab", "--json", module="print('hello')\n" + MODULE)
    assert code == 0
    assert json.loads(out)["name"] == "lab"
    assert "msdk: the plugin 'lab-lab' 1.2 prints when it is imported" in err
    assert "UserWarning" not in err  # told as msdk tells things


@pytest.mark.parametrize(
    "does",
    [
        {"VALIDATE": "raise ValueError('an odd number, please')"},
        {"INFO": "from msdk.errors import PartError; raise PartError('please')"},
    ],
    ids=["validator", "PartError"],
)
def test_what_a_plugin_refuses_in_words_is_a_mistake_of_the_recipe(lab, does):
    """Exit code 2, and no trace."""
    code, _, err = lab("recipe", "check", "r.toml", **does)
    assert code == 2
    assert "please" in err
    assert "trace" not in err


def test_what_is_msdks_own_is_raised(lab, monkeypatch):
    """A bug of msdk keeps its traceback."""
    monkeypatch.setattr("msdk.cli.parts.display.show", lambda *grids: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        lab("list")
