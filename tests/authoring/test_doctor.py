"""`msdk plugin doctor` finds what is wrong with installed plugins, says why and what to do, and survives it."""

import json

import pytest
from installed import dist_info, python

GOOD = """
import attrs
from msdk.weightings.base import Weighting

@attrs.frozen
class Good(Weighting):
    def weight(self, schedule, t):
        return 1.0
"""


@pytest.fixture
def install(tmp_path):
    """Puts a package on the path of `doctor`."""

    def install(name, module=GOOD, points="[msdk.weightings]\n{name} = {package}:Good\n", **metadata):
        package = name.replace("-", "_")
        (tmp_path / f"{package}.py").write_text(module)
        dist_info(tmp_path, name, points.format(name=name, package=package), **metadata)

    return install


def examined(tmp_path, **environment):
    """The plugins by name, msdk's own left out, and the exit code."""
    done = python("-m", "msdk", "plugin", "doctor", "--json", path=[tmp_path], **environment)
    plugins = {one["name"]: one for one in json.loads(done.stdout)}
    for own in ("msdk-timm", "msdk-experts", "msdk-hf", "msdk-trackers"):
        plugins.pop(own, None)
    return plugins, done


def test_a_good_plugin_is_good(install, tmp_path):
    """Version, range of msdk, parts and import time; exit code 0."""
    install("my-lab", requires=["msdk-diffusion>=0.0.1", "torch"], version="2.3")
    plugins, done = examined(tmp_path)
    (plugin,) = plugins.values()
    assert (plugin["version"], plugin["requires"], plugin["findings"], plugin["torch"]) == ("2.3", ">=0.0.1", [], False)
    assert plugin["parts"] == [{"kind": "weightings", "name": "my-lab", "target": "my_lab:Good"}]
    assert 0 <= plugin["seconds"] < 0.5
    assert done.returncode == 0


@pytest.mark.parametrize(
    ("faulty", "what", "fix"),
    [
        ({"module": "import no_such\n"}, "ModuleNotFoundError: No module named 'no_such'", "mend or update"),
        ({"module": "x = 1\n"}, "AttributeError: module 'bad_lab' has no attribute 'Good'", "mend or update"),
        ({"module": "class Good: ...\n"}, "is not a subclass of msdk.weightings.base.Weighting", "mend or update"),
        ({"module": GOOD.replace("weight(", "weigh(")}, "bad_lab.Good) lacks weight", "mend or update"),
        ({"module": GOOD.replace("@attrs.frozen", "")}, "is no attrs class: decorate it with @attrs.frozen", "mend"),
        ({"module": "import sys\nsys.exit(3)\n"}, "SystemExit: 3", "mend or update"),
        ({"module": "import os\nos._exit(3)\n"}, "it ends the process by os._exit(3)", "mend or update 'bad-lab'"),
        ({"module": "import os\nos.abort()\n"}, "importing it ended the process", "uninstall 'bad-lab'"),
        (
            {"module": "print('hello')\n" + GOOD},
            "'bad-lab' 1.0 prints when it is imported",
            "mend or update",
        ),
        ({"module": "import time\ntime.sleep(0.7)\n" + GOOD}, "importing it takes 0.", "inside `build`"),
        ({"requires": ["msdk-diffusion>=99"]}, "it is for msdk >=99, and this is msdk", "update 'bad-lab'"),
        ({"requires": ["msdk>=0.1,<0.2"]}, "which on the package index is somebody else's", "msdk is 'msdk-diffusion'"),
        ({"points": "no section\n"}, "its entry_points.txt cannot be read", "reinstall 'bad-lab'"),
        ({"points": "[msdk.weightngs]\nx = y:Z\n"}, "no kind of part 'weightngs'", "tell its author"),
        ({"points": "[msdk.weightings]\nx = y\n"}, "is not of the form module:Class", "tell its author"),
        ({"points": "[msdk.weightings]\nedm = bad_lab:Good\n"}, "is also owned by msdk", "'bad-lab:edm'"),
    ],
    ids=range(16),
)
def test_each_fault_costs_only_itself(install, tmp_path, faulty, what, fix):
    """The cause and the cure, exit code 1, and the good plugin beside it stays good."""
    install("my-lab")
    install("bad-lab", **faulty)
    plugins, done = examined(tmp_path)
    assert done.returncode == 1
    assert plugins["my-lab"]["findings"] == []
    whats = [finding["what"] for finding in plugins["bad-lab"]["findings"]]
    assert any(what in text for text in whats), whats
    assert not any("everything else works" in text for text in whats)  # that is said once, as the fix
    assert any(fix in finding["fix"] for finding in plugins["bad-lab"]["findings"])


def test_torch_at_import_is_told(install, tmp_path):
    """The commonest fault: a spec that imports torch makes every check slow."""
    install("bad-lab", module="import torch\n" + GOOD)
    plugins, _ = examined(tmp_path)
    (finding,) = plugins["bad-lab"]["findings"]
    assert "and imports torch" in finding["what"]
    assert plugins["bad-lab"]["torch"]


def test_the_table_has_the_cure(install, tmp_path):
    """What a person reads."""
    install("bad-lab", module="import no_such_module\n")
    done = python("-m", "msdk", "plugin", "doctor", path=[tmp_path])
    assert "1 wrong" in done.stdout
    assert "Fix: mend or update 'bad-lab'" in done.stdout
    assert done.stdout.count("everything else") == 1
    assert "Traceback" not in done.stdout + done.stderr


def test_switched_off_plugins_are_still_examined(install, tmp_path):
    """The doctor says that they are off, and what they are."""
    install("my-lab")
    plugins, done = examined(tmp_path, MSDK_PLUGINS="off")
    assert "MSDK_PLUGINS=off: plugins are installed, but none is used" in done.stderr
    assert [part["name"] for part in plugins["my-lab"]["parts"]] == ["my-lab"]
    assert plugins["my-lab"]["findings"] == []


def test_strict_does_not_keep_the_doctor_from_its_work(install, tmp_path):
    """The one command that must not stop at a broken plugin is this one."""
    install("msdk-broken", points="no section\n")
    install("my-lab")
    plugins, done = examined(tmp_path, MSDK_PLUGINS="strict")
    assert done.returncode == 1
    assert plugins["my-lab"]["findings"] == []
    assert "cannot be read" in plugins["msdk-broken"]["findings"][0]["what"]
    assert "MSDK_PLUGINS=strict" in done.stderr


def test_what_cannot_be_read_is_named_by_its_distribution(tmp_path):
    """Not by the folder that holds it, also where there is no METADATA."""
    site = tmp_path / "site-packages"
    (site / "bad_lab-1.0.dist-info").mkdir(parents=True)
    (site / "bad_lab-1.0.dist-info" / "entry_points.txt").write_text("[msdk.samplers]\nno value\n")
    done = python("-m", "msdk", "plugin", "doctor", "--json", path=[site])
    names = [one["name"] for one in json.loads(done.stdout)]
    assert "bad-lab" in names
    assert "site-packages" not in names
