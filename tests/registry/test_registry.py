"""Registries import nothing unasked, refuse doubtful names, and outlive broken plugins."""

import os
import signal
import subprocess
import sys
import warnings
import zipfile
from pathlib import Path

import pytest

import msdk
from msdk.errors import DuplicateNameError, MsdkWarning, PluginError, PluginFaultError, UnknownNameError
from msdk.registry import KINDS, Registry, registries, registry_of
from msdk.registry.discovery import installed_parts, scanned
from msdk.samplers.base import Sampler
from msdk.samplers.ddim import DDIM
from msdk.samplers.heun import Heun

PLUGIN = "from msdk.samplers.base import Sampler\nclass Euler(Sampler): '''A part.'''\nclass Midpoint(Sampler): ...\n"


@pytest.fixture
def samplers():
    """A registry with two built-ins, which nothing but the test adds to."""
    builtins = {"ddim": "msdk.samplers.ddim:DDIM", "heun": "msdk.samplers.heun:Heun"}
    return Registry(msdk.samplers.registry.record, builtins)


@pytest.fixture
def install(tmp_path, monkeypatch):
    """Makes a fake installed distribution on a fresh path; forgets it, and what it imported, after the test."""

    def add(name, entry_points, module=PLUGIN, *, site="site", version="1.0", metadata=True):
        folder = tmp_path / site
        info = folder / f"{name.replace('-', '_')}-{version}.dist-info"
        info.mkdir(parents=True)
        (info / "entry_points.txt").write_bytes(
            entry_points if isinstance(entry_points, bytes) else entry_points.encode()
        )
        if metadata:
            (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        (folder / f"{name.replace('-', '_')}.py").write_text(module)
        if str(folder) not in sys.path:
            monkeypatch.syspath_prepend(str(folder))
        scanned.cache_clear()
        return folder

    yield add
    scanned.cache_clear()
    for name, module in list(sys.modules.items()):
        if (getattr(module, "__file__", None) or "").startswith(str(tmp_path)):
            del sys.modules[name]


def reasons(owner):
    """Why the distribution was left out, of what the scan tells."""
    return [broken.reason for broken in installed_parts()[1] if broken.owner == owner]


# --- lazy -------------------------------------------------------------------------------------------------------------


def test_listing_imports_nothing():
    """Names and origins of all kinds are known before torch or any part is imported."""
    code = """
import sys
from msdk.registry import registries
parts = {r.origin(name).target.split(":")[0] for r in registries().values() for name in r.names()}
assert len(parts) > 15, parts
print(sorted(parts.union(["torch", "numpy"]) & set(sys.modules)))
"""
    listed = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=False)
    assert (listed.stdout, listed.stderr) == ("[]\n", "")


def test_a_lookup_imports_only_its_part():
    """`get` imports the module of the part and no other part of the kind."""
    code = """
import sys, msdk
msdk.samplers.get("ddim")
print(*sorted(name for name in sys.modules if name.startswith("msdk.samplers.")))
"""
    looked = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=False)
    assert (looked.stdout.split(), looked.stderr) == (
        ["msdk.samplers.base", "msdk.samplers.ddim", "msdk.samplers.grids"],
        "",
    )


@pytest.mark.parametrize("kind", KINDS)
def test_every_built_in_can_be_had_by_its_name(kind):
    """Every built-in part loads, belongs to msdk, and is called by the name it was asked for."""
    registry = registries()[kind]
    own = [name for name in registry.names() if registry.origin(name).owner == "msdk"]
    assert own
    assert [registry.name_of(registry.get(name)) for name in own] == own


# --- names ------------------------------------------------------------------------------------------------------------


def test_an_unknown_name_is_told_with_the_nearest_and_all_names(samplers):
    """A misspelt name is answered with the one that was meant and the whole list."""
    with pytest.raises(UnknownNameError, match=r"no sampler named 'huen'\. Did you mean 'heun'\? Known: ddim, heun\."):
        samplers.get("huen")


@pytest.mark.parametrize("name", ["", ":", "heun:", ":heun:", "nobody:heun", "msdk:hen"])
def test_a_name_without_an_owner_of_it_is_unknown(samplers, name):
    """A colon separates an owner from a name, and both must exist."""
    with pytest.raises(UnknownNameError, match=f"no sampler named '{name}'"):
        samplers.origin(name)


@pytest.mark.parametrize("spelled", ["noise_levels", "noise_level", "noise-levels", "Noise-Level"])
def test_a_kind_is_known_in_singular_and_plural(spelled):
    """The command line may spell a kind either way."""
    assert registry_of(spelled).kind == "noise_levels"


def test_an_unknown_kind_is_told_with_the_nearest():
    """A misspelt kind is answered with the one that was meant and all kinds."""
    with pytest.raises(UnknownNameError, match=r"'encodrs'\. Did you mean 'encoders'\? Known: autoencoders"):
        registry_of("encodrs")


# --- added by the running program -------------------------------------------------------------------------------------


def test_a_decorated_class_is_found_by_its_name(samplers):
    """`add` gives the class back unchanged; `get`, `names`, `name_of` and `origin` know it."""

    class Mine(Heun):
        pass

    assert samplers.add("mine")(Mine) is Mine
    assert samplers.get("mine") is Mine
    assert samplers.name_of(Mine) == "mine"
    assert samplers.names() == ["ddim", "heun", "mine"]
    assert samplers.origin("mine").owner == __name__


def test_a_taken_name_is_refused_with_both_owners(samplers):
    """`add` does not replace in silence, says who owns the name and who wants it, and leaves the owner in place."""

    class Mine(Heun):
        pass

    with pytest.raises(DuplicateNameError, match=rf"'heun' is taken: 'msdk' owns it .* and '{__name__}' wants it"):
        samplers.add("heun")(Mine)
    assert samplers.get("heun") is Heun


def test_replace_is_possible_on_purpose(samplers):
    """With `replace`, the new class answers to the name, and the old one is no longer called by it."""
    assert samplers.get("heun") is Heun

    class Mine(Heun):
        pass

    samplers.add("heun", replace=True)(Mine)
    assert samplers.get("heun") is Mine
    assert samplers.name_of(Mine) == "heun"
    with pytest.raises(UnknownNameError, match="Heun is not a registered sampler"):
        samplers.name_of(Heun)


def test_a_reloaded_class_takes_its_own_place(samplers):
    """Defining the same class again, as a notebook does, is no duplicate, and the newest one counts."""

    def define():
        @samplers.add("mine")
        class Mine(Heun):
            pass

        return samplers.get("mine")

    assert define() is not define()
    newest = define()
    assert samplers.get("mine") is newest


@pytest.mark.parametrize("part", [int, Sampler.step])
def test_what_is_no_subclass_of_the_base_is_refused(samplers, part):
    """Only a subclass of the kind's base can be registered; the message names the base."""
    with pytest.raises(PluginError, match=r"'odd' of .* is not a subclass of msdk\.samplers\.base\.Sampler"):
        samplers.add("odd")(part)
    assert "odd" not in samplers.names()


# --- installed --------------------------------------------------------------------------------------------------------


def test_an_installed_part_is_found_and_imported_only_when_asked_for(samplers, install):
    """An entry point is listed with its distribution and version, and its module stays unimported until `get`."""
    install("msdk-demo", "[msdk.samplers]\neuler = msdk_demo:Euler [extra]\n")
    origin = samplers.origin("euler")
    assert (origin.owner, origin.version, origin.target) == ("msdk-demo", "1.0", "msdk_demo:Euler")
    assert samplers.names() == ["ddim", "euler", "heun"]
    assert "msdk_demo" not in sys.modules
    assert samplers.name_of(samplers.get("euler")) == "euler"
    assert samplers.get("Msdk_Demo:euler") is samplers.get("euler")


def test_an_installed_part_may_be_a_reexport(samplers, install):
    """The name of a class is the one it was found by, wherever it is defined."""
    install("demo", "[msdk.samplers]\neuler = demo:Renamed\n", f"{PLUGIN}Renamed = Euler\n")
    assert samplers.name_of(samplers.get("euler")) == "euler"


@pytest.mark.parametrize("packed", ["demo-1.0.dist-info/", "EGG-INFO/"], ids=["zip", "egg"])
def test_plugins_in_zip_files_are_found(samplers, install, tmp_path, monkeypatch, packed):
    """A zip file on the path is searched as a folder is."""
    file = tmp_path / ("demo-1.0.egg" if "EGG" in packed else "demo.zip")
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr(f"{packed}entry_points.txt", "[msdk.samplers]\neuler = zipped_demo:Euler\n")
        archive.writestr("zipped_demo.py", PLUGIN)
    monkeypatch.syspath_prepend(str(file))
    scanned.cache_clear()
    assert samplers.origin("euler").owner == "demo"
    assert samplers.get("euler").__module__ == "zipped_demo"


def test_odd_entries_of_the_path_are_passed_over(samplers, install, tmp_path, monkeypatch):
    """Folders that do not exist, the empty entry, plain files, broken zip files and non-strings disturb nothing."""
    site = install("demo", "[msdk.samplers]\neuler = demo:Euler\n")
    plain, broken = tmp_path / "plain.txt", tmp_path / "broken.zip"
    plain.write_text("no folder")
    with zipfile.ZipFile(broken, "w") as archive:
        archive.writestr("x.py", "")
    broken.write_bytes(b"junk" + broken.read_bytes()[:-30] + b"junk")
    odd = [str(tmp_path / "nowhere"), "", str(plain), str(broken), Path(tmp_path)]
    monkeypatch.setattr(sys, "path", [*odd, str(site)])
    monkeypatch.chdir(tmp_path)
    scanned.cache_clear()
    assert installed_parts() == ({"samplers": [samplers.origin("euler")]}, [])


def test_the_empty_entry_is_the_current_folder(samplers, install, monkeypatch):
    """Python run without a script searches the current folder, and so does the scan."""
    site = install("demo", "[msdk.samplers]\neuler = demo:Euler\n")
    monkeypatch.setattr(sys, "path", [""])
    monkeypatch.chdir(site)
    scanned.cache_clear()
    assert samplers.origin("euler").owner == "demo"


def test_a_copy_further_down_the_path_is_shadowed(samplers, install):
    """Of two copies of one distribution the first on the path counts, as in an import."""
    install("demo", "[msdk.samplers]\neuler = demo:Euler\n", site="below", version="1.0")
    install("Demo", "[msdk.samplers]\neuler = Demo:Midpoint\n", site="above", version="2.0")
    assert samplers.names() == ["ddim", "euler", "heun"]
    assert samplers.origin("euler").version == "2.0"


def test_a_built_in_keeps_its_name(samplers, install):
    """A plugin that takes it is told of in a warning; `owner:name` picks it, and that is what a recipe stores."""
    install("demo", "[msdk.samplers]\nheun = demo:Euler\n")
    assert samplers.names() == ["ddim", "demo:heun", "heun"]
    assert samplers.origin("heun").owner == "msdk"
    with pytest.warns(MsdkWarning, match=r"'heun' is taken to be that of msdk, but demo took .* say 'demo:heun'"):
        assert samplers.get("heun") is Heun
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert samplers.get("msdk:heun") is Heun
        theirs = samplers.get("demo:heun")
    assert theirs.__module__ == "demo"
    assert [samplers.name_of(part) for part in (Heun, theirs, DDIM)] == ["msdk:heun", "demo:heun", "ddim"]


def test_two_plugins_with_one_name_are_doubtful(samplers, install):
    """Two installed owners of a name are told apart as msdk and a plugin are, even before either is loaded."""
    install("one", "[msdk.samplers]\neuler = one:Euler\n")
    install("two", "[msdk.samplers]\neuler = two:Euler\n")
    with pytest.raises(DuplicateNameError, match=r"(?=.*'one' \(one:Euler\))(?=.*'two' \(two:Euler\))"):
        samplers.get("euler")
    assert samplers.get("two:euler").__module__ == "two"
    assert [name for name in samplers.names() if "euler" in name] == ["one:euler", "two:euler"]


def test_a_program_cannot_take_the_name_of_a_plugin(samplers, install):
    """`add` refuses an installed name, too, and names the distribution."""
    install("demo", "[msdk.samplers]\neuler = demo:Euler\n")
    with pytest.raises(DuplicateNameError, match="'demo' owns it"):
        samplers.add("euler")(type("Mine", (Heun,), {}))


def test_a_plugin_may_also_decorate_its_part(samplers, install):
    """A class that registers itself under the name of its own entry point is one owner, not two."""
    install("demo", "[msdk.samplers]\neuler = demo:Euler\n")
    part = samplers.get("euler")
    assert samplers.add("euler")(part) is part
    assert samplers.get("euler") is part


# --- broken -----------------------------------------------------------------------------------------------------------

GOOD = "[msdk.samplers]\neuler = good:Euler\n"


@pytest.mark.parametrize(
    ("entry_points", "reason"),
    [
        ("[msdk.samplers]\nx = bad:A\nx = bad:B\n", "cannot be read: .* option 'x' .* already exists"),
        ("[msdk.samplers]\nx = bad:A\n[msdk.samplers]\n", "cannot be read: .* section 'msdk.samplers' already exists"),
        ("x = msdk_bad:A\n", "cannot be read: File contains no section headers"),
        ("[msdk.samplers]\nx\n", "cannot be read: .* parsing errors"),
        ("[msdk.samplers]\nx = bad:A%(y)s\n", r"'x = bad:A%\(y\)s' is not of the form module:Class"),
        (b"[msdk.samplers]\nx = bad:A\xff\n", "cannot be read: 'utf-8' codec can't decode"),
        ("[msdk.samplers]\nx = bad-module:A\n", "'x = bad-module:A' is not of the form module:Class"),
        ("[msdk.samplers]\nx = bad\n", "'x = bad' is not of the form module:Class"),
        ("[msdk.samplers]\nx =\n", "'x = ' is not of the form module:Class"),
        ("[msdk.encodres]\nx = bad:A\ny = bad:A\n", r"no kind of part 'encodres' .* Did you mean 'encoders'\?"),
    ],
    ids=[
        "duplicate key",
        "duplicate section",
        "no section",
        "no value",
        "percent",
        "not utf-8",
        "dash",
        "no class",
        "empty",
        "unknown group",
    ],
)
@pytest.mark.parametrize("site", ["site", "elsewhere"])
def test_a_broken_declaration_costs_only_its_package_and_is_told(samplers, install, entry_points, reason, site):
    """The broken package is left out and told once; its neighbours, in its folder or another, work."""
    install("bad", entry_points)
    install("good", GOOD, site=site)
    assert samplers.get("euler").__module__ == "good"
    assert samplers.names() == ["ddim", "euler", "heun"]
    with pytest.raises(UnknownNameError, match=rf"no sampler named 'x'.* could not be read: bad \(.*{reason}"):
        samplers.get("x")
    assert len(reasons("bad")) == 1


@pytest.mark.parametrize(
    ("module", "reason"),
    [
        ("import no_such_module", "ModuleNotFoundError: No module named 'no_such_module'"),
        ("raise RuntimeError('broken inside')", "RuntimeError: broken inside"),
        ("raise SystemExit(3)", "SystemExit: 3"),
        ("import os; os._exit(3)", r"it ends the process by os\._exit\(3\)"),
        ("class Odd(BaseException): ...\nraise Odd('x')", "Odd: x"),
        ("def f(:", "SyntaxError"),
        ("", "AttributeError: .* 'Part'"),
    ],
)
def test_a_plugin_that_cannot_be_imported_costs_only_itself(samplers, install, module, reason):
    """The lookup says whose part failed, where and why; listing and the other parts work."""
    install("bad", "[msdk.samplers]\nx = bad:Part\n", module)
    assert samplers.names() == ["ddim", "heun", "x"]
    with pytest.raises(PluginFaultError, match=rf"'x' of the installed package 'bad' .* from bad:Part: {reason}"):
        samplers.get("x")
    assert samplers.get("heun") is Heun


def test_a_plugin_that_hangs_is_not_waited_for(samplers, install, monkeypatch):
    """Somebody who waits is told for what, and in the end goes on without it."""
    monkeypatch.setattr("msdk.registry.faults.LONG", 0.1)
    monkeypatch.setattr("msdk.registry.faults.PATIENCE", 0.25)
    install("bad", "[msdk.samplers]\nx = bad:Part\n", "import time\nwhile True: time.sleep(9)\n")
    with (
        pytest.warns(MsdkWarning, match=r"the plugin 'bad' 1\.0 takes more than 0\.1 s to import"),
        pytest.raises(PluginFaultError, match=r"from bad:Part: it took more than 0\.25 s"),
    ):
        samplers.get("x")
    before = signal.getsignal(signal.SIGALRM)
    install("good", GOOD)
    samplers.get("euler")
    assert signal.getitimer(signal.ITIMER_REAL) == (0, 0)
    assert signal.getsignal(signal.SIGALRM) is before


def test_what_a_plugin_prints_is_no_output(samplers, install, capfd):
    """Neither by `print` nor past it, so that --json stays one document; whose it is, is told."""
    module = "import os, sys\nprint('hello')\nos.write(1, b'raw')\nend, kept = os._exit, sys.stdout\n" + PLUGIN
    module = module.replace("class", "sys.stdout.buffer.write(b'bytes')\nclass", 1)
    install("loud", "[msdk.samplers]\nx = loud:Euler\n", module)
    with pytest.warns(MsdkWarning, match=r"the plugin 'loud' 1\.0 prints when it is imported.*'hello bytes'"):
        part = samplers.get("x")
    print("ours")
    out, err = capfd.readouterr()
    assert (out, err) == ("ours\n", "raw")
    print("later", file=sys.modules[part.__module__].kept)  # as a handler of logging would
    assert capfd.readouterr() == ("", "later\n")
    assert os._exit is not sys.modules[part.__module__].end  # and ours ends the process again


@pytest.mark.parametrize("module", ["Part = 3", "def Part(): ...", "class Part: ..."])
def test_an_installed_part_of_the_wrong_type_is_refused(samplers, install, module):
    """What an entry point names must be a subclass of the base of its kind."""
    install("bad", "[msdk.samplers]\nx = bad:Part\n", module)
    with pytest.raises(PluginError, match=r"'x' of 'bad' \(bad:Part\) is not a subclass of msdk\.samplers\.base"):
        samplers.get("x")


@pytest.mark.parametrize(
    "entry_points",
    [
        "[console_scripts]\nx = s:f\nx = s:g\n",
        "x = s:f\n",
        b"[console_scripts]\nx = s:\xff\n",
        "[console_scripts]\n%\n",
    ],
)
def test_what_strangers_break_neither_disturbs_nor_is_told(samplers, install, entry_points):
    """A malformed file of a package that is not ours hides no plugin and is not our user's business."""
    install("stranger", entry_points)
    install("good", GOOD)
    assert samplers.get("euler").__module__ == "good"
    assert not reasons("stranger")


def test_a_distribution_without_metadata_disturbs_nothing(samplers, install):
    """A half-removed package leaves its neighbours working, also where another file is malformed."""
    install("half", "[msdk.samplers]\nx = half:A\n", metadata=False)
    install("good", GOOD)
    assert samplers.origin("x").owner == "half"
    install("bad", "[msdk.samplers]\ny = bad:A\ny = bad:B\n")
    assert samplers.origin("euler").owner == "good"


@pytest.mark.parametrize(("target", "told"), [("demo:Euler", 0), ("demo:Midpoint", 1)])
def test_leftovers_of_an_older_version_are_no_second_owner(samplers, install, target, told):
    """Two versions of one distribution in one folder own a name once; where they differ, that is told."""
    install("demo", "[msdk.samplers]\neuler = demo:Euler\n", version="1.0")
    install("Demo", f"[msdk.samplers]\neuler = {target}\n", version="2.0")
    assert samplers.origin("euler").owner == "demo"
    assert len(reasons("demo")) == told


# --- modes and versions -----------------------------------------------------------------------------------------------


def test_plugins_can_be_switched_off(install, monkeypatch, samplers):
    """MSDK_PLUGINS=off leaves installed parts out of listings and lookups."""
    install("my-lab", "[msdk.samplers]\neuler = my_lab:Euler\n")
    assert "euler" in samplers.names()
    monkeypatch.setenv("MSDK_PLUGINS", "off")
    assert samplers.names() == ["ddim", "heun"]
    with pytest.raises(UnknownNameError):
        samplers.get("euler")


def test_strict_refuses_to_go_on_beside_a_broken_plugin(install, monkeypatch, samplers):
    """MSDK_PLUGINS=strict turns what is left out with a warning into an error that names plugin and reason."""
    install("msdk-broken", "no section = here\n")
    assert samplers.names() == ["ddim", "heun"]
    monkeypatch.setenv("MSDK_PLUGINS", "strict")
    with pytest.raises(PluginError, match=r"strict, and these plugins are broken: msdk-broken: its entry_points\.txt"):
        samplers.names()
    scanned.cache_clear()


def test_other_modes_are_refused(monkeypatch, samplers):
    """A typo in the variable is told with what it may be."""
    monkeypatch.setenv("MSDK_PLUGINS", "strickt")
    with pytest.raises(PluginError, match=r"MSDK_PLUGINS is 'strickt': set it to on, off or strict\. Did you mean"):
        samplers.names()


@pytest.mark.parametrize(
    ("requirement", "good"),
    [
        ("msdk", True),
        ("msdk>=0.0.1,<99", True),
        ("msdk (>=0.0.1)", True),
        ("msdk[plot] >=0.0.1 ; python_version > '3'", True),
        ("msdk-timm>=99", True),
        ("msdk-diffusion-extra>=99", True),
        ("msdk-diffusion[plot]>=0.1,<0.2", True),
        ("msdk>=99", False),
        ("msdk-diffusion>=99", False),
        ("MSDK_Diffusion (>=99)", False),
        ("MSDK <0.0.1", False),
    ],
)
def test_a_plugin_for_another_msdk_costs_only_itself(install, samplers, requirement, good):
    """The versions in a plugin's dependencies are its API range; outside of it, its parts are refused in words."""
    folder = install("my-lab", "[msdk.samplers]\neuler = my_lab:Euler\n")
    with (folder / "my_lab-1.0.dist-info" / "METADATA").open("a") as file:
        file.write(f"Requires-Dist: torch>=2\nRequires-Dist: {requirement}\n")
    assert samplers.names() == ["ddim", "euler", "heun"]
    if good:
        assert samplers.get("euler").__name__ == "Euler"
    else:
        with pytest.raises(PluginError, match=r"'my-lab' 1\.0 cannot be used: it is for msdk [<>=]+[\d.]+, and"):
            samplers.get("euler")
    assert samplers.get("heun") is Heun
