"""A kind is one record: everything that treats kinds finds a new one by it, and nothing else is edited."""

import ast
import inspect
import json
import shutil
from pathlib import Path

import attrs
import pytest
from installed import as_installed, dist_info, python

import msdk
from msdk import testing
from msdk.registry import KINDS, registries
from msdk.registry.kinds import load

RECORD = '''
"""Which colours a network is told to like."""

from typing import TYPE_CHECKING

from msdk.registry import Kind, Registry

if TYPE_CHECKING:
    from {package}.base import Palette

registry: "Registry[Palette]" = Registry(
    Kind(
        name="palettes",
        base="{package}.base:Palette",
        laws="{package}.laws:LAWS",
        template="{package}.template:MyPalette",
    ),
    {{"warm": "{package}.warm:Warm"}},
)
add, get, names, origin = registry.add, registry.get, registry.names, registry.origin
'''

BASE = '''
"""A palette shares the whole out among red, green and blue."""

import abc

import attrs


@attrs.frozen(kw_only=True)
class Palette(abc.ABC):
    """Shares of colours."""

    @abc.abstractmethod
    def shares(self) -> tuple[float, float, float]:
        """Red, green and blue, which sum to 1."""
'''

WARM = '''
import attrs
from attrs.validators import le
from {package}.base import Palette


@attrs.frozen(kw_only=True)
class Warm(Palette):
    """Much red.

    Args:
        red: The share of red.
    """

    red: float = attrs.field(default=0.8, validator=le(1))

    def shares(self):
        return self.red, 0.0, 1 - self.red
'''

LAWS = '''
from msdk.testing.laws import COMMON, require


def shares_are_a_whole(part, **options):
    """They sum to 1."""
    require(abs(sum(part.shares()) - 1) < 1e-9, f"{{part.shares()}} do not sum to 1")


LAWS = (*COMMON, shares_are_a_whole)
'''

TEMPLATE = '''
"""A palette."""

import attrs

from {package}.base import Palette
from {package}.template_mixing import even


@attrs.frozen(kw_only=True)
class MyPalette(Palette):
    """No colour more than another."""

    def shares(self):
        return even()
'''

MIXING = """
def even():
    return 0.25, 0.25, 0.5
"""

TINTED = '''
import attrs
from {package}.base import Palette
from msdk.weightings.base import Weighting


@attrs.frozen(kw_only=True)
class Tinted(Weighting):
    """As much as there is red.

    Args:
        palette: Whose red.
    """

    palette: Palette

    def weight(self, schedule, t):
        return self.palette.shares()[0]
'''

FILES = {
    "__init__": RECORD,
    "base": BASE,
    "warm": WARM,
    "laws": LAWS,
    "template": TEMPLATE,
    "template_mixing": MIXING,
    "tinted": TINTED,
}


def write(folder, package):
    """The folder of the kind."""
    folder.mkdir(parents=True)
    for name, text in FILES.items():
        (folder / f"{name}.py").write_text(text.format(package=package).lstrip())


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """A folder of the path with a package as if installed, which brings the kind, and a weighting that takes a part."""
    place = tmp_path_factory.mktemp("kinds") / "site"
    write(place / "lab_palettes", "lab_palettes")
    points = "[msdk.kinds]\npalettes = lab_palettes:registry\n[msdk.weightings]\ntinted = lab_palettes.tinted:Tinted\n"
    dist_info(place, "lab-palettes", points, requires=["msdk-diffusion>=0.0.1"])
    return place


def cli(*arguments, path, check=0, **environment):
    """What `msdk` printed: its answer, or where it is to fail what it told of that."""
    done = python("-m", "msdk", *arguments, path=path, **environment)
    assert "Traceback" not in done.stderr
    assert done.returncode == check, done.stdout + done.stderr
    return done.stderr if check else done.stdout


def faults(place):
    """What the doctor's examining process finds wrong with the kind and the parts that come with it."""
    code = "from msdk.authoring.doctor import probe; probe('lab-palettes', '[[\"kinds\", \"palettes\"]]')"
    done = python("-c", code, path=[place])
    return json.loads(done.stdout.partition("msdk-plugin-doctor: ")[2])["errors"]


# --- a package brings a kind ------------------------------------------------------------------------------------------


def test_it_is_listed(site):
    """Its part with its owner, alone and among all; the kind in singular too."""
    asked = ("palettes", "palette", "Palettes")
    found = [json.loads(cli("list", kind, "--json", path=[site])) for kind in asked]
    warm = {"kind": "palettes", "name": "warm", "owner": "lab-palettes", "version": "1.0"}
    assert found == 3 * [[{**warm, "target": "lab_palettes.warm:Warm", "description": "Much red"}]]
    assert found[0][0] in json.loads(cli("list", "--json", path=[site]))


def test_listing_imports_its_record_alone(site):
    """Neither its base nor its part, nor torch."""
    code = """
import sys
from msdk.registry import registries
assert "warm" in registries()["palettes"].names()
print(sorted(name for name in sys.modules if name.partition(".")[0] in ("lab_palettes", "torch")))
"""
    done = python("-W", "error", "-c", code, path=[site])
    assert (done.stdout, done.stderr) == ("['lab_palettes']\n", "")


def test_it_is_a_public_name(site):
    """`msdk.palettes` is its package, with all that `msdk.encoders` has."""
    code = """
import attrs, msdk
from lab_palettes.base import Palette

@msdk.palettes.add("cold")
@attrs.frozen(kw_only=True)
class Cold(Palette):
    def shares(self):
        return 0.0, 0.0, 1.0

print(msdk.palettes.names(), msdk.palettes.get("warm")().shares()[0], msdk.palettes.origin("warm").owner)
"""
    done = python("-W", "error", "-c", code, path=[site])
    assert (done.stdout, done.stderr) == ("['cold', 'warm'] 0.8 lab-palettes\n", "")


def test_it_is_shown(site):
    """A part with its fields; and the reference page of the kind, as docs/parts has those of msdk."""
    assert "The share of red." in cli("show", "palette", "warm", path=[site])
    page = cli("show", "palettes", path=[site])
    assert page.startswith("# Palettes\n\nA palette shares the whole out among red, green and blue.")
    assert "### `shares()` (every part has it)" in page
    assert "| `red` | `float` | `0.8` | The share of red. |" in page


def test_the_schema_has_it(site):
    """Its definition, that of its part, and a reference where a part takes one."""
    definitions = json.loads(cli("recipe", "schema", path=[site]))["definitions"]
    assert definitions["palettes"]["properties"]["name"]["enum"] == ["warm"]
    assert definitions["palettes/warm"]["properties"]["red"]["maximum"] == 1
    assert definitions["weightings/tinted"]["properties"]["palette"] == {"$ref": "#/definitions/palettes"}


def test_recipes_are_read_and_checked(site, tmp_path):
    """A field annotated with the base takes a part of the kind by name; mistakes in it have their place."""
    recipe = tmp_path / "r.toml"
    text = f'extends = "{Path("recipes/digits/unified.toml").absolute().as_posix()}"\n'
    recipe.write_text(text + 'weighting = { name = "tinted", palette = { name = "warm", red = 0.5 } }\n')
    cli("recipe", "check", recipe, path=[site])
    shown = cli("recipe", "show", recipe, path=[site])
    assert "red = 0.5" in shown
    recipe.write_text(text + 'weighting = { name = "tinted", palette = { name = "wram", red = 2.0 } }\n')
    told = " ".join(cli("recipe", "check", recipe, path=[site], check=2).split())
    assert "weighting.palette.name" in told
    assert "no palette named 'wram'. Did you mean 'warm'?" in told


def test_its_laws_are_those_of_the_kit(site):
    """By name, by kind, and broken in words."""
    code = """
from lab_palettes.warm import Warm
from msdk import testing
print([law.__name__ for law in testing.laws("palettes")])
testing.check("palette", Warm())
testing.palettes.shares_are_a_whole(Warm())
try:
    Warm.shares = lambda self: (1.0, 1.0, 1.0)
    testing.check("palette", Warm())
except testing.LawError as error:
    print(error)
"""
    done = python("-c", code, path=[site])
    assert done.stderr == ""
    names, broken = done.stdout.splitlines()
    assert names == "['settings_survive_a_recipe', 'fields_are_explained', 'shares_are_a_whole']"
    assert broken == "shares_are_a_whole: (1.0, 1.0, 1.0) do not sum to 1"


def test_a_part_of_it_is_scaffolded(site, tmp_path):
    """`msdk plugin new` writes a package whose generated test passes the laws of the kind, and which is then listed."""
    folder = tmp_path / "my-lab"
    cli("plugin", "new", "my-lab", "--kind", "palette", "--out", folder, path=[site])
    assert {file.name for file in (folder / "src" / "my_lab").iterdir()} == {
        "__init__.py",
        "mixing.py",
        "palette.py",
        "py.typed",
    }
    as_installed(folder, tmp_path / "installed")
    path = [site, tmp_path / "installed", folder / "src"]
    done = python("-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", folder, folder / "tests", path=path)
    assert "3 passed" in done.stdout, done.stdout
    assert 'palette = { name = "my-lab" }' in (folder / "README.md").read_text()
    listed = json.loads(cli("list", "palettes", "--json", path=path))
    assert [(part["name"], part["owner"]) for part in listed] == [("my-lab", "my-lab"), ("warm", "lab-palettes")]


def test_the_doctor_examines_it(site):
    """The kind and its parts are what the plugin brings, and nothing is wrong with them."""
    done = python("-m", "msdk", "plugin", "doctor", "--json", path=[site])
    (plugin,) = (one for one in json.loads(done.stdout) if one["name"] == "lab-palettes")
    assert plugin["findings"] == []
    assert [(part["kind"], part["name"]) for part in plugin["parts"]] == [
        ("kinds", "palettes"),
        ("weightings", "tinted"),
    ]


# --- what can be wrong with one ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        ("import no_such_module\n", "ModuleNotFoundError: No module named 'no_such_module'"),
        ("registry = 3\n", "the kind 'palettes' (lab_palettes:registry) is no msdk.registry.Registry"),
        (RECORD.format(package="x").replace('"palettes"', '"colours"'), "calls itself 'colours': give both one name"),
    ],
    ids=["import", "no registry", "name"],
)
def test_a_broken_record_costs_only_its_package(site, tmp_path, record, reason):
    """Listing goes on and tells, strict refuses, and the doctor has the cause."""
    place = tmp_path / "site"
    shutil.copytree(site, place)
    (place / "lab_palettes" / "__init__.py").write_text(record)
    done = python("-m", "msdk", "list", "samplers", path=[place])
    told = " ".join(done.stderr.split())
    assert "the plugin lab-palettes is left out" in told
    assert reason in told
    assert " heun " in done.stdout
    assert "this plugin is broken: lab-palettes" in cli("list", path=[place], check=2, MSDK_PLUGINS="strict")
    assert any(reason in fault for fault in faults(place))


@pytest.mark.parametrize(
    ("file", "text", "reason"),
    [
        ("base", "", "the base of the kind 'palettes' cannot be loaded from lab_palettes.base:Palette: AttributeError"),
        ("warm", "class Warm: ...", "'warm' of 'lab-palettes' (lab_palettes.warm:Warm) is not a subclass of"),
        ("base", "from lab_palettes.warm import Palette", "is lab_palettes.warm:Palette: name it so"),
        ("template", None, "the template lab_palettes.template:MyPalette of the kind 'palettes' is not there"),
    ],
)
def test_the_doctor_finds_what_a_record_names_in_vain(site, tmp_path, file, text, reason):
    """Base, parts and template are looked at before anybody needs them."""
    place = tmp_path / "site"
    shutil.copytree(site, place)
    path = place / "lab_palettes" / f"{file}.py"
    if text is None:
        path.unlink()
    else:
        path.write_text(text)
    if "import Palette" in str(text):
        whole = (BASE + WARM).replace("from {package}.base import Palette\n", "")
        (place / "lab_palettes" / "warm.py").write_text(whole.lstrip())
    assert any(reason in fault for fault in faults(place))


def test_a_name_has_one_kind(site, tmp_path):
    """Neither the name of msdk's own kinds can be taken, nor that of another package's."""
    points = "[msdk.kinds]\nencoders = bad:registry\npalettes = bad:registry\n"
    dist_info(tmp_path, "bad", points)
    done = python("-m", "msdk", "list", "palettes", path=[site, tmp_path])
    told = " ".join(done.stderr.split())
    assert "it brings a kind 'encoders', and msdk has one of that name: choose another" in told
    assert "it brings a kind 'palettes', as 'lab-palettes' does: uninstall one of them" in told
    assert " warm " in done.stdout


def test_plugins_off_leaves_it_out(site):
    """As any part of a plugin."""
    told = cli("list", "palettes", path=[site], check=2, MSDK_PLUGINS="off")
    assert "no kind of part named 'palettes'" in told


# --- msdk's own -------------------------------------------------------------------------------------------------------


def test_a_folder_with_a_record_is_a_kind(tmp_path):
    """In msdk itself a new kind is one folder: no listing anywhere names it."""
    shutil.copytree(Path(msdk.__file__).parent, tmp_path / "msdk", ignore=shutil.ignore_patterns("__pycache__"))
    write(tmp_path / "msdk" / "palettes", "msdk.palettes")
    code = """
import msdk
from msdk import testing
from msdk.recipe.schema import recipe_schema
print(msdk.__file__)
print(msdk.palettes.names(), msdk.palettes.origin("warm").owner, "palettes/warm" in recipe_schema()[0]["definitions"])
testing.check("palettes", msdk.palettes.get("warm")())
"""
    done = python("-P", "-c", code, path=[tmp_path])
    assert done.stdout.splitlines() == [str(tmp_path / "msdk" / "__init__.py"), "['warm'] msdk True"], done.stderr


@pytest.mark.parametrize("kind", KINDS)
def test_records_say_what_is_there(kind):
    """The folder's name is the kind's; the base is named where it is defined; laws and template can be loaded."""
    registry = registries()[kind]
    record, base = registry.record, registry.base()
    assert record.name == kind
    assert record.base == f"{base.__module__}:{base.__qualname__}"
    assert load(record.template).__mro__[1:].index(base) >= 0
    assert set(testing.laws(kind)[:2]) == {testing.laws("encoder")[0], testing.laws("encoder")[1]}
    assert len(testing.laws(kind)) > 2
    assert getattr(testing, kind).LAWS is testing.laws(kind)


@pytest.mark.parametrize("kind", KINDS)
def test_the_package_of_a_kind_is_its_record(kind):
    """Beside imports for types, the record with the names of its parts, and the four verbs."""
    body = ast.parse(inspect.getsource(getattr(msdk, kind))).body
    assert [type(node).__name__ for node in body] == ["Expr", "ImportFrom", "ImportFrom", "If", "AnnAssign", "Assign"]


LEAST = {
    **dict.fromkeys(("bins", "start_scales", "end_scales"), 2),
    **dict.fromkeys([(name, "seed") for name in ("kid", "is")], 0),
    **dict.fromkeys(("classes", "augment"), 0),  # no classes, and no augmentation that the network is told
    **dict.fromkeys(("stages", "steps", "count"), 2),  # one stage is not looked for, one step has no next
    **dict.fromkeys(("channels", "width", "points"), 4),  # sines and cosines of two frequencies; a curve
    **dict.fromkeys([(name, "channels") for name in ("kl", "vq-f4", "uncertainty")], 1),
    **dict.fromkeys([(name, "head_width") for name in ("ldm", "iunet")], 0),  # left to the number of heads
    ("iunet", "pooled"): 0,  # attention at every pixel
    ("progressive-distillation", "steps"): 1,
    ("dpm-adaptive", "order"): 2,  # an error is estimated from two orders
    ("dit", "depth"): 0,  # all of the depth may be in the encoder, or in the decoders
    ("uvit", "depth"): 2,  # a block on either side of the middle
    "subset_size": 2,  # an unbiased estimate leaves each image out once
    "draws": 10,  # a mean that is worth one
    "projection": 16,
}
"""The least of a whole number, by its field, or by part and field; 1 of all others."""


@pytest.mark.parametrize("kind", KINDS)
def test_whole_numbers_begin_at_one(kind):
    """A count of nothing, or less, is refused where it is set, and the least that has a meaning is taken."""
    registry = registries()[kind]
    for name in registry.own_names():
        part = registry.get(name)
        fields = attrs.fields(part)
        required = {field.name: 8 for field in fields if field.default is attrs.NOTHING}
        for field in fields:
            if type(field.default) is not int or kind == "datasets":  # images have 1 or 3 channels
                continue
            least = LEAST.get((name, field.name), LEAST.get(field.name, 1))
            part(**required | {field.name: least})
            with pytest.raises(ValueError, match=field.name):
                part(**required | {field.name: least - 1})
