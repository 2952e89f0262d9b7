"""`msdk plugin new` writes packages that install and pass their tests as they are, for every kind."""

import re
import tomllib

import pytest
from commands import quick
from installed import as_installed, python

from msdk.authoring.scaffolding import scaffold
from msdk.errors import PluginError, UnknownNameError
from msdk.registry import KINDS


@pytest.fixture(scope="module")
def packages(tmp_path_factory):
    """A package of each kind, and a folder in which all of them are as if installed."""
    place = tmp_path_factory.mktemp("packages")
    found = {kind: place / f"lab-{kind.replace('_', '-')}" for kind in KINDS}
    for kind, folder in found.items():
        scaffold(folder.name, kind, folder)
        as_installed(folder, place / "site")
    return found


def path_of(packages):
    first = next(iter(packages.values()))
    return [first.parent / "site", *(folder / "src" for folder in packages.values())]


@pytest.mark.slow
def test_every_kind_passes_its_tests(packages):
    """All laws of all kinds, on the code as it was written."""
    tests = [folder / "tests" for folder in packages.values()]
    done = python("-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", "/", *tests, path=path_of(packages))
    assert done.returncode == 0, done.stdout[-3000:]
    assert "failed" not in done.stdout
    assert int(done.stdout.strip().splitlines()[-1].split()[0]) > 60


@pytest.mark.slow
def test_every_kind_is_listed_and_good(packages):
    """`msdk list` shows each part with its owner, and the doctor has nothing to say."""
    listed = python("-m", "msdk", "list", path=path_of(packages))
    for folder in packages.values():
        assert folder.name in listed.stdout
    done = python("-m", "msdk", "plugin", "doctor", path=path_of(packages))
    assert done.returncode == 0, done.stdout
    assert all(done.stdout.count(f" {folder.name} ") for folder in packages.values())


@pytest.mark.parametrize("kind", KINDS)
def test_the_package_is_complete(packages, kind):
    """Pyproject with entry point and range of msdk, README with what a recipe says, the part, and a test."""
    folder = packages[kind]
    project = tomllib.loads((folder / "pyproject.toml").read_text())["project"]
    ((name, target),) = project["entry-points"][f"msdk.{kind}"].items()
    module, _, cls = target.partition(":")
    assert name == folder.name
    assert f"class {cls}(" in (folder / "src" / f"{module.replace('.', '/')}.py").read_text()
    assert "msdk-diffusion>=0.1,<0.2" in project["dependencies"]
    readme = (folder / "README.md").read_text()
    (usage,) = [block.partition("```")[0] for block in readme.split("```toml\n")[1:]]
    assert name in str(tomllib.loads(usage))
    assert "testing.laws(" in next((folder / "tests").glob("*.py")).read_text()
    assert not any("{" in line and "}" in line and "name}" in line for line in readme.splitlines())


@pytest.mark.parametrize("kind", KINDS)
def test_the_package_stands_alone(packages, kind):
    """Its code is its own: no module of it needs the templates that it was written from."""
    code = "".join(file.read_text() for file in (packages[kind] / "src").rglob("*.py"))
    assert "msdk.authoring" not in code
    assert (packages[kind] / "src" / packages[kind].name.replace("-", "_") / "network.py").exists() == (
        kind in ("encoders", "decoders", "autoencoders")
    )


@pytest.mark.parametrize("name", ["My-Lab", "my_lab", "1lab", "lab-", "../lab", "my--lab", ""])
def test_bad_names_are_refused(tmp_path, name):
    """Before anything is written."""
    with pytest.raises(PluginError, match=r"is no name for a package"):
        scaffold(name, "encoder", tmp_path / "x")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("msdk", "msdk is called that"),
        ("msdk-diffusion", "msdk is called that"),
        ("class", "a keyword of Python"),
        ("json", "standard library has a module 'json'"),
        ("tests", "the package that is written uses it"),
        ("dit", "msdk has a part 'dit' of decoders"),
        ("heun", "msdk has a part 'heun' of samplers"),
        ("torch", "the package 'torch' is installed"),
        ("basedpyright", "the package 'basedpyright' is installed"),
        ("jaxtyping", "the package 'jaxtyping' is installed"),
        ("attr", "there is a module 'attr'"),  # of the distribution attrs
        ("my-lab", "there is a module 'my_lab'"),
    ],
)
def test_taken_names_are_refused(tmp_path, monkeypatch, name, reason):
    """Keywords, modules, distributions and parts: what the package would hide, or be hidden by."""
    (tmp_path / "path").mkdir()
    (tmp_path / "path" / "my_lab.py").write_text("")
    monkeypatch.syspath_prepend(tmp_path / "path")
    with pytest.raises(
        PluginError, match=rf"the name '{name}' is taken: .*{reason}.*\. Choose another, as my-{name} or"
    ):
        scaffold(name, "encoder", tmp_path / "x")
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize(
    ("name", "kind", "cls", "others"),
    [
        ("my-lab", "encoder", "MyLabEncoder", ["MyLabEncoderNet"]),
        ("wide-3d", "decoder", "Wide3dDecoder", ["Wide3dDecoderNet"]),
        ("tiny-encoder", "encoder", "TinyEncoder", ["TinyEncoderNet"]),
        ("encoder", "encoder", "MyEncoder", ["MyEncoderNet"]),
        ("one-call", "sampler", "MyOneCallSampler", []),  # the base that it has
        ("ramp", "lr-schedule", "RampLRSchedule", []),
    ],
)
def test_the_class_is_named_after_the_part(tmp_path, name, kind, cls, others):
    """In the code, the entry point and the test; no name of the code is taken twice."""
    files = scaffold(name, kind, tmp_path / name)
    texts = {file.name: file.read_text() for file in files}
    code = "".join(text for file, text in texts.items() if file.endswith(".py"))
    for each in (cls, *others):
        assert len(re.findall(rf"^class {each}\(", code, re.MULTILINE)) == 1
    assert f':{cls}"' in texts["pyproject.toml"]
    assert f"    law({cls}()" in code
    names = re.findall(r"^(?:class|from .* import) (\w+)", code, re.MULTILINE)
    assert len([each for each in names if each == cls]) == 2  # where it is made, and in the test
    compile(code, name, "exec", dont_inherit=True)
    article = "An" if kind in ("encoder", "lr-schedule") else "A"
    words = kind.replace("-", " ")
    assert f'description = "{article} {words} for msdk"' in texts["pyproject.toml"]
    assert f"{article} {words} for [msdk]" in texts["README.md"]
    assert texts["__init__.py"] == f'"""{article} {words} for msdk."""\n'


def test_nothing_is_overwritten(tmp_path):
    """A folder with something in it stays as it is; an empty one is used."""
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("mine")
    with pytest.raises(PluginError, match="full exists: choose another --out"):
        scaffold("my-lab", "sampler", tmp_path / "full")
    assert [file.name for file in (tmp_path / "full").iterdir()] == ["mine.txt"]
    (tmp_path / "empty").mkdir()
    assert scaffold("my-lab", "samplers", tmp_path / "empty")
    with pytest.raises(UnknownNameError, match="Did you mean 'samplers'"):
        scaffold("my-lab", "samplr", tmp_path / "other")


def test_the_command_says_what_comes_next(tmp_path, capsys, monkeypatch):
    """Files written, and the next command."""
    monkeypatch.chdir(tmp_path)
    code, out, _ = quick(capsys, monkeypatch, "plugin", "new", "my-lab", "--kind", "weighting")
    assert code == 0
    assert "wrote my-lab/src/my_lab/weighting.py" in out
    assert "next: cd my-lab && pip install -e . pytest && pytest" in out
