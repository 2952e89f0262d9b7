"""Recipes are strict: what is read is what was meant, and every mistake is told at once, with its place."""

import json
import subprocess
import sys
import tomllib
from pathlib import Path

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from msdk import (
    autoencoders,
    clusterings,
    datasets,
    decoders,
    encoders,
    noise_levels,
    parameterizations,
    samplers,
    schedules,
    weightings,
)
from msdk.errors import MsdkWarning, PartError, RecipeError
from msdk.partition import Partition
from msdk.recipe import BudgetOptions, Recipe, Sampling, StageDraw, Stages, Training, load_recipe, structure, to_toml
from msdk.registry import Origin

DDIM, DPMpp2M, Heun = (samplers.get(name) for name in ("ddim", "dpmpp-2m", "heun"))
EDM, SNR, Decoder = schedules.get("edm"), clusterings.get("snr"), decoders.get("ddpmpp")
Digits, Folder = datasets.get("digits"), datasets.get("folder")

RECIPES = Path(__file__).parents[2] / "recipes"
COMPLETE = sorted(
    path for path in RECIPES.rglob("*.toml") if not path.stem.startswith("base") and path.parent.name != "studies"
)
"""Recipes that stand alone; a file named base*.toml is only there to be extended."""

OWN = [path for path in COMPLETE if not path.stem.startswith("timm")]
"""Those that need no plugin."""

ONE = '[{ name = "ddpmpp", channels = 16 }]'
BASE = f"""
data = {{ name = "digits" }}
encoder = {{ name = "ddpmpp", channels = 16, channel_mult = [1, 2] }}
decoders = {ONE}
"""
HUGE = '{ name = "vp-linear", beta_max = 4e3 }'
THREE = BASE.replace(ONE, f"[{', '.join([ONE[1:-1]] * 3)}]")


@pytest.fixture
def write(tmp_path):
    """Writes a recipe file into the test's folder."""

    def write(text, name="recipe.toml"):
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
        return file

    return write


def problems(path, *overrides):
    """Path -> message of everything that is wrong with a recipe."""
    with pytest.raises(RecipeError) as caught:
        load_recipe(path, overrides)
    assert all(
        problem.path in str(caught.value) and problem.message in str(caught.value) for problem in caught.value.problems
    )
    return {problem.path: problem.message for problem in caught.value.problems}


def origins(path, *overrides):
    """Path -> file name (or --set) that each mistake comes from."""
    with pytest.raises(RecipeError) as caught:
        load_recipe(path, overrides)
    return {p.path: p.source if p.source.startswith("--set") else Path(p.source).name for p in caught.value.problems}


# --- round trip -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", COMPLETE, ids=lambda path: str(path.relative_to(RECIPES)))
def test_every_recipe_round_trips(path):
    """The resolved text of a shipped recipe reads back to an equal recipe, and to the same text."""
    if path not in OWN:
        pytest.importorskip("msdk_timm")
    recipe = load_recipe(path)
    again = structure(tomllib.loads(to_toml(recipe)), "again")
    assert again == recipe
    assert to_toml(again) == to_toml(recipe)


def part(kind, name, **fields):
    """Parts of one class with drawn fields."""
    return st.builds(kind.get(name), **fields)


positive = st.floats(1e-6, 1e6)
grid = {"grid": st.sampled_from(["uniform-t", "quadratic-t", "uniform-lam", "rho"]), "rho": st.floats(0.1, 20)}
files = st.sampled_from([Path("/data/a b"), Path("/ü.zip")])
images = {"path": files, "size": st.sampled_from([8, 32]), "channels": st.sampled_from([1, 3])}
edges = st.lists(st.floats(0.1, 10), unique=True, max_size=3).map(lambda found: tuple(sorted(found)))
rates = st.floats(0, 0.999)

stages = st.one_of(
    st.just(Stages()),
    st.builds(Stages, edges_ratio=edges),
    st.builds(Stages, edges_t=edges, schedule=st.just(EDM(sigma_max=40.0))),
    st.builds(Stages, clustering=part(clusterings, "snr", stages=st.integers(2, 4), points=st.integers(4, 2000))),
)
noises = st.one_of(
    part(noise_levels, "uniform", t_first=st.floats(0, 0.1)),
    part(noise_levels, "edm", mean=st.floats(-5, 2), std=positive),  # both schedules below have such noise
)
fields = {
    "title": st.text(),
    "data": st.one_of(part(datasets, "digits"), part(datasets, "folder", **images), part(datasets, "zip", **images)),
    "schedule": st.one_of(part(schedules, "vp-linear", beta_max=st.floats(10, 30)), part(schedules, "edm")),
    "parameterization": st.one_of(part(parameterizations, "eps"), part(parameterizations, "edm", sigma_data=positive)),
    "autoencoder": st.one_of(
        st.none(),
        part(
            autoencoders, "vq-f4", channel_mult=st.just((1,)), weights=files, scale=positive, codes=st.integers(1, 99)
        ),
        part(autoencoders, "kl", channel_mult=st.just((1,)), attention=st.sampled_from([(), (1,)])),
    ),
    "encoder": part(
        encoders,
        "ddpmpp",
        channels=st.sampled_from([16, 32, 64]),
        channel_mult=st.sampled_from([(1,), (1, 2), (1, 2, 2)]),
        attention=st.lists(st.integers(1, 32), max_size=2).map(tuple),
        dropout=rates,
        fir=st.booleans(),
        pyramid=st.sampled_from(["none", "residual"]),
        groups=st.sampled_from([1, 2, 4]),
    ),
    "weighting": st.one_of(part(weightings, "uniform"), part(weightings, "edm", sigma_data=positive)),
    "training": st.builds(
        Training,
        iterations=st.integers(1, 10**12),
        noise=noises,
        stage_draw=st.sampled_from(["natural", "uniform", StageDraw(name="curriculum", every=7)]),
        mixed=st.booleans(),
        lr=st.floats(min_value=0, exclude_min=True, allow_infinity=False),
        betas=st.tuples(rates, rates),
        precision=st.sampled_from(["fp32", "bf16", "fp16"]),
    ),
    "sampler": st.one_of(
        part(samplers, "ddim", eta=st.floats(0, 1), **grid),
        part(samplers, "dpmpp-2m", lower_order_final=st.booleans(), **grid),
        part(samplers, "heun", t_end=st.floats(1e-5, 0.1), **grid),
    ),
    "sampling": st.one_of(
        st.builds(Sampling, steps=st.integers(2, 100)),
        st.builds(Sampling, nfe=st.integers(3, 50).map(lambda steps: 2 * steps - 1)),
    ),
    "budget": st.builds(
        BudgetOptions,
        convention=st.sampled_from(["exact", "paper", "fvcore"]),
        compare=st.lists(files, max_size=2).map(tuple),
    ),
}


@st.composite
def recipes(draw):
    """Valid recipes: as many decoders as stages, everything else on its own."""
    cut = draw(stages)
    count = cut.clustering.stages if cut.clustering else len(cut.edges_ratio or cut.edges_t or ()) + 1
    decoder = part(decoders, "ddpmpp", channels=st.sampled_from([16, 48]), dropout=rates, groups=st.just(4))
    return Recipe(
        stages=cut,
        decoders=tuple(draw(decoder) for _ in range(count)),
        sharing=draw(st.sampled_from(["shared", "separate", "unified"][: 2 if count > 1 else 3])),
        **{name: draw(strategy) for name, strategy in fields.items()},
    )


@settings(derandomize=True, deadline=None, max_examples=100)
@given(recipes())
def test_any_recipe_round_trips(recipe):
    """Writing a valid recipe as TOML and reading it loses nothing: no digit of a float, no letter of a title."""
    assert structure(tomllib.loads(to_toml(recipe)), "again") == recipe


def test_found_edges_are_written_out(write):
    """A recipe given a partition stores it as edges_ratio, whatever way it named before; one stage needs no edges."""
    recipe = load_recipe(write(THREE + 'stages = { clustering = { name = "snr" } }'))
    assert recipe.clustered
    with pytest.raises(PartError, match="still to be found: run `msdk cluster`"):
        recipe.partition()
    found = recipe.with_partition(Partition((0.5, 2.5)))
    assert structure(tomllib.loads(to_toml(found)), "again").partition() == Partition((0.5, 2.5))
    assert recipe.with_partition(Partition()).stages == Stages()


def test_loading_a_recipe_imports_no_torch():
    """A recipe is read and checked, down to whether features fit decoders, without torch or NumPy."""
    code = f"""
import sys
from msdk.recipe import load_recipe, to_toml
for path in {[str(path) for path in OWN]}:
    to_toml(load_recipe(path))
print(sorted({{"torch", "numpy", "PIL"}} & set(sys.modules)))
"""
    loaded = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=False)
    assert (loaded.stdout, loaded.stderr) == ("[]\n", "")


# --- extends ----------------------------------------------------------------------------------------------------------


def test_tables_merge_and_lists_replace(write):
    """An overlay changes the keys it names and keeps the others; a list is taken whole."""
    write(
        THREE + "stages = { edges_ratio = [0.5, 2.0] }\ntraining = { lr = 0.5, warmup = 7, betas = [0.1, 0.2] }",
        "base.toml",
    )
    recipe = load_recipe(
        write(
            'extends = "base.toml"\ntraining = { lr = 0.25, betas = [0.3, 0.4] }\nstages = { edges_ratio = [1.5] }\n'
            'decoders = [{ name = "ddpmpp", channels = 32 }, { name = "ddpmpp", channels = 48 }]'
        )
    )
    assert (recipe.training.lr, recipe.training.warmup, recipe.training.betas) == (0.25, 7, (0.3, 0.4))
    assert recipe.partition().edges == (1.5,)
    assert [decoder.channels for decoder in recipe.decoders] == [32, 48]


@pytest.mark.parametrize(
    ("over", "expected"),
    [
        ('sampler = { name = "heun" }', Heun()),
        ('sampler = { name = "heun", rho = 3.0 }', Heun(rho=3.0)),
        ('sampler = { name = "ddim", t_end = 0.5 }', DDIM(eta=0.25, t_end=0.5, grid="uniform-t")),
        ("sampler = { eta = 0.75 }", DDIM(eta=0.75, t_end=0.1, grid="uniform-t")),
    ],
)
def test_another_part_drops_the_keys_of_the_old_one(write, over, expected):
    """A part with another name starts from its own defaults; the same name, or none, keeps the keys below."""
    write(BASE + 'sampler = { name = "ddim", eta = 0.25, t_end = 0.1 }', "base.toml")
    recipe = load_recipe(write(f'extends = "base.toml"\n{over}'))
    assert recipe.sampler == expected.on(recipe.schedule)


@pytest.mark.parametrize(
    ("over", "expected"),
    [
        ("edges_ratio = [0.5, 2.0]", Stages(edges_ratio=(0.5, 2.0))),
        ('clustering = { name = "snr" }', Stages(clustering=SNR())),
        ("edges_t = [0.4, 0.6]", Stages(edges_t=(0.4, 0.6))),
        ('schedule = { name = "edm", sigma_max = 9.0 }', Stages(edges_t=(0.3, 0.7), schedule=EDM(sigma_max=9.0))),
    ],
)
def test_stages_are_one_choice(write, over, expected):
    """An overlay that says where the edges come from replaces the base's way, with the schedule it referred to."""
    write(THREE + '[stages]\nedges_t = [0.3, 0.7]\nschedule = { name = "vp-linear", beta_max = 21.0 }', "base.toml")
    assert load_recipe(write(f'extends = "base.toml"\n[stages]\n{over}')).stages == expected


def test_nfe_replaces_steps_and_back(write):
    """Steps and nfe are two ways to say one thing: the later file, or override, wins."""
    write(BASE + "sampling = { steps = 7, images = 3 }", "base.toml")
    over = write('extends = "base.toml"\nsampling = { nfe = 9 }')
    assert load_recipe(over).sampling == Sampling(nfe=9, images=3)
    assert load_recipe(over, ["sampling.steps=5"]).sampling == Sampling(steps=5, images=3)


def test_later_bases_win(write):
    """Of several bases the later ones override the earlier, bases of bases included, and the file overrides all."""
    write(BASE + 'title = "root"\ntraining = { lr = 0.1, seed = 1, keep = 3 }', "shared/root.toml")
    write('extends = "root.toml"\ntitle = "one"\ntraining = { seed = 2 }', "shared/one.toml")
    write("training = { seed = 3 }", "two.toml")
    recipe = load_recipe(write('extends = ["shared/one.toml", "two.toml"]\ntraining = { keep = 4 }'))
    assert recipe.title == "one"
    assert (recipe.training.lr, recipe.training.seed, recipe.training.keep) == (0.1, 3, 4)


def test_a_circle_of_recipes_is_told(write):
    """A recipe that extends itself, directly or not, is an error that shows the way round."""
    write('extends = "b.toml"', "a.toml")
    b = write('extends = "./a.toml"', "b.toml")
    assert problems(b) == {"extends": "a recipe cannot extend itself: b.toml -> a.toml -> b.toml"}
    assert origins(b) == {"extends": "a.toml"}


def test_a_recipe_may_be_extended_twice(write):
    """Two bases with a common base are no circle."""
    write(BASE, "root.toml")
    for name in ("one", "two"):
        write('extends = "root.toml"', f"{name}.toml")
    assert load_recipe(write('extends = ["one.toml", "two.toml"]')).data == Digits()


def test_a_missing_base_is_told_with_the_file_that_names_it(write):
    """The error names the missing file and who extends it."""
    write('extends = "nowhere.toml"', "middle.toml")
    top = write('extends = "middle.toml"')
    assert "nowhere.toml cannot be read: No such file" in problems(top)["extends"]
    assert origins(top) == {"extends": "middle.toml"}


@pytest.mark.parametrize("given", ["3", "[3]", '["base.toml", {}]', "true"])
def test_extends_takes_file_names(write, given):
    """Anything but a name or a list of names is an error, not a crash."""
    write(BASE, "base.toml")
    assert "expected a file name or a list of them, got" in problems(write(f"extends = {given}"))["extends"]


# --- files ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"title = \n", r"is not valid TOML: .*line 1"),
        (b"a = 1\na = 2\n", r"is not valid TOML: .*line 2"),
        (b'title = "\xff"', r"is not valid TOML: 'utf-8' codec can't decode"),
        (None, "cannot be read: it is a folder"),
    ],
    ids=["syntax", "duplicate key", "not utf-8", "directory"],
)
def test_a_file_that_is_no_recipe_is_told(tmp_path, content, message):
    """The error names the file, whether it is given directly or as a base."""
    bad = tmp_path / "bad.toml"
    bad.mkdir() if content is None else bad.write_bytes(content)
    top = tmp_path / "top.toml"
    top.write_text('extends = "bad.toml"')
    for path in (bad, top):
        with pytest.raises(RecipeError, match=rf"(?s)bad\.toml.*{message}"):
            load_recipe(path)


def test_a_missing_file_is_told(tmp_path):
    """The error names the file and the reason."""
    with pytest.raises(RecipeError, match=r"(?s)none\.toml has 1 problem.*No such file"):
        load_recipe(tmp_path / "none.toml")


@pytest.fixture
def with_path_in_decoder(monkeypatch):
    """A decoder with a file among its fields, as a plugin may have."""

    @attrs.frozen(kw_only=True)
    class Filed(Decoder):
        weights: Path

    monkeypatch.setattr(decoders.registry, "_added", {})
    decoders.registry.add("filed")(Filed)


def test_a_file_name_is_meant_from_the_recipe_that_has_it(write, tmp_path, monkeypatch, with_path_in_decoder):
    """Relative names start at the folder of the recipe file that has them; in a --set, at the current one."""
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    base = BASE.replace('"digits"', '"folder", path = "images", size = 8').replace(
        "[{", '[{ name = "filed", weights = "w.pt", channels = 16 }, {'
    )
    write(base + "stages = { edges_ratio = [1.0] }", "lib/base.toml")
    over = write('extends = "lib/base.toml"\nbudget = { compare = ["a.toml", "/abs/b.toml", "~/c.toml"] }')
    recipe = load_recipe(over)
    assert recipe.data == Folder(path=tmp_path / "lib/images", size=8)
    assert recipe.decoders[0].weights == tmp_path / "lib/w.pt"
    assert recipe.budget.compare == (tmp_path / "a.toml", Path("/abs/b.toml"), (Path.home() / "c.toml").resolve())
    assert load_recipe(over, ["data.path=../images"]).data.path == tmp_path / "images"


# --- overrides --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("override", "read", "expected"),
    [
        ("training.batch_size=64", lambda r: r.training.batch_size, 64),
        ("training.lr = 1e-3", lambda r: r.training.lr, 1e-3),
        ("training.mixed=false", lambda r: r.training.mixed, False),
        ("title=digits", lambda r: r.title, "digits"),
        ("title=a = b", lambda r: r.title, "a = b"),
        ('title="7"', lambda r: r.title, "7"),
        ("title=", lambda r: r.title, ""),
        ("training.betas=[0.5, 0.6]", lambda r: r.training.betas, (0.5, 0.6)),
        ("training.betas.1=0.6", lambda r: r.training.betas, (0.5, 0.6)),
        ("decoders.0.channels=48", lambda r: r.decoders, (Decoder(channels=48, groups=4),)),
        ('decoders.0={ name = "ddpmpp", channels = 16 }', lambda r: r.decoders, (Decoder(channels=16),)),
        ("sampler.name=heun", lambda r: r.sampler, Heun()),
        ("sampling.nfe=20", lambda r: (r.sampling.steps, r.steps), (None, 20)),
        ("stages.edges_ratio=[]", lambda r: r.stages, Stages(edges_ratio=())),
    ],
)
def test_an_override_sets_one_key(write, override, read, expected):
    """The value is TOML, or a bare word; the key reaches into tables and lists, and merges as an overlay does."""
    path = write(
        BASE.replace("channels = 16 }]", "channels = 16, groups = 4 }]")
        + 'sampler = { name = "ddim", eta = 0.5 }\nsampling = { steps = 7 }\ntraining = { betas = [0.5, 0.9] }'
    )
    assert read(load_recipe(path, [override])) == expected


def test_an_override_may_choose_another_way_to_cut(write):
    """Naming a clustering replaces the edges of the file, though only a key below `stages` is given."""
    path = write(THREE + "stages = { edges_ratio = [0.5, 2.0] }")
    assert load_recipe(path, ["stages.clustering.name=snr", "stages.clustering.points=99"]).stages == Stages(
        clustering=SNR(points=99)
    )


@pytest.mark.parametrize(
    ("override", "key", "message"),
    [
        ("training.lr", "training.lr", "write an override as key=value"),
        ("=3", "", "write an override as key=value"),
        ("training..lr=3", "training..lr", "write an override as key=value"),
        ("decoders.1.channels=8", "decoders.1.channels", "there is no entry 1: the list has 1, numbered from 0"),
        ("decoders.-1.channels=8", "decoders.-1.channels", "there is no entry -1: the list has 1"),
        ("decoders.first=8", "decoders.first", "there is no entry first: the list has 1"),
        ("decoders.²=8", "decoders.²", "there is no entry ²: the list has 1"),
        ("data.name.x=8", "data.name.x", "data.name is 'digits', which has no keys to set"),
        ("traning.lr=3", "traning", "unknown key. Did you mean 'training'?"),
        ("decoders.0.chanels=8", "decoders.0.chanels", "unknown key. Did you mean 'channels'?"),
        ("decoders.0={name='ddpmpp',channels='x'}", "decoders.0.channels", "expected a whole number, got 'x'"),
        ("training.mixed=False", "training.mixed", "expected true or false, got 'False'"),
        ("training.noise=emd", "training.noise.name", "no noise_level named 'emd'. Did you mean 'edm'?"),
        (
            "training.noise=3",
            "training.noise",
            'expected a table with a name, { name = "..." }, or the name alone, got 3',
        ),
    ],
)
def test_a_wrong_override_is_told_as_such(write, override, key, message):
    """A bad key or value names the --set it came from."""
    path = write(BASE)
    (told,) = problems(path, override).items()
    assert told[0] == key
    assert told[1].startswith(message)
    assert origins(path, override) == {key: f"--set {override}"}


# --- mistakes ---------------------------------------------------------------------------------------------------------


def test_every_mistake_is_told_at_once(write):
    """One error has all mistakes of the file, its base and the overrides, each with its place and its source."""
    write(BASE + 'titel = "x"\nsampler = { name = "huen" }\ntraining = { lr = "fast", keep = 2 }', "base.toml")
    path = write('extends = "base.toml"\ntraining = { keep = 0 }\nschedule = { name = "edm", sigma_mxa = 3.0 }')
    overrides = ["decoders.0.channels=64.5", "decoders.7=1"]
    assert problems(path, *overrides) == {
        "decoders.7": "there is no entry 7: the list has 1, numbered from 0",
        "decoders.0.channels": "expected a whole number, got 64.5",
        "schedule.sigma_mxa": "unknown key. Did you mean 'sigma_max'? Known: name, sigma_min, sigma_max.",
        "training.lr": "expected a finite number, got 'fast'",
        "training.keep": "'keep' must be >= 1: 0",
        "sampler.name": f"no sampler named 'huen'. Did you mean 'heun'? Known: {', '.join(samplers.names())}.",
        "titel": "unknown key. Did you mean 'title'? Known: " + ", ".join(f.name for f in attrs.fields(Recipe)) + ".",
    }
    assert origins(path, *overrides) == {
        "decoders.7": "--set decoders.7=1",
        "decoders.0.channels": "--set decoders.0.channels=64.5",
        "schedule.sigma_mxa": "recipe.toml",
        "training.lr": "base.toml",
        "training.keep": "recipe.toml",
        "sampler.name": "base.toml",
        "titel": "base.toml",
    }
    with pytest.raises(RecipeError, match=r"recipe\.toml has 7 problems\n") as caught:
        load_recipe(path, overrides)
    lines = str(caught.value).splitlines()[1:]
    assert len(lines) == 7
    assert f"[{path.parent / 'base.toml'}]" in next(line for line in lines if "training.lr" in line)
    assert "[" not in next(line for line in lines if "training.keep" in line)


@pytest.mark.parametrize(
    ("line", "key", "message"),
    [
        ("training = { batch_size = 4.7 }", "training.batch_size", "expected a whole number, got 4.7"),
        ("training = { batch_size = 4.0 }", "training.batch_size", "expected a whole number, got 4.0"),
        ("training = { batch_size = true }", "training.batch_size", "expected a whole number, got True"),
        ('training = { batch_size = "4" }', "training.batch_size", "expected a whole number, got '4'"),
        ('training = { mixed = "false" }', "training.mixed", "expected true or false, got 'false'"),
        ("training = { mixed = 0 }", "training.mixed", "expected true or false, got 0"),
        ("training = { lr = true }", "training.lr", "expected a finite number, got True"),
        ("training = { lr = inf }", "training.lr", "expected a finite number, got inf"),
        ("training = { lr = -inf }", "training.lr", "expected a finite number, got -inf"),
        ("training = { lr = nan }", "training.lr", "expected a finite number, got nan"),
        (f"training = {{ lr = 1{'0' * 400} }}", "training.lr", "too large"),
        ("training = { betas = 0.9 }", "training.betas", "expected a list, got 0.9"),
        ("training = { betas = [0.9] }", "training.betas", "expected a list of 2, got 1 entries"),
        ('training = { betas = [0.9, "x"] }', "training.betas.1", "expected a finite number, got 'x'"),
        ("training = { betas = [0.9, 1.0] }", "training.betas", "'betas' must be < 1: 1.0"),
        (
            'training = { precision = "fp61" }',
            "training.precision",
            "expected one of fp32, bf16, fp16, got 'fp61'. Did you mean",
        ),
        ("training = { precision = 16 }", "training.precision", "expected one of fp32, bf16, fp16, got 16"),
        ('training = { noise = "emd" }', "training.noise.name", "Did you mean 'edm'?"),
        ("training = { noise = { std = 1.0 } }", "training.noise", "expected a table with a name"),
        ("training = { noise = { name = 3 } }", "training.noise", "expected a table with a name"),
        (
            'training = { noise = { name = "emd" } }',
            "training.noise.name",
            "no noise_level named 'emd'. Did you mean 'edm'?",
        ),
        (
            'training = { noise = { name = "edm", sdt = 1.0 } }',
            "training.noise.sdt",
            "unknown key. Did you mean 'std'?",
        ),
        ('training = { noise = { name = "edm", std = 0 } }', "training.noise.std", "'std' must be > 0: 0.0"),
        ("training = []", "training", "expected a table, got []"),
        ("title = 3", "title", "expected text, got 3"),
        ("title = 2020-01-01", "title", "expected text, got datetime.date"),
        ('stages = { edges_ratio = "1.0" }', "stages.edges_ratio", "expected a list, got '1.0'"),
        ("stages = { edge_ratio = [1.0] }", "stages.edge_ratio", "unknown key. Did you mean 'edges_ratio'?"),
        ('stages = { from_ = "x.json" }', "stages.from_", "unknown key. Did you mean 'from'?"),
        ("stages = { from = 3 }", "stages.from", "expected a file name in quotes, got 3"),
        (
            'stages = { clustering = { name = "snr", stages = 1 } }',
            "stages.clustering.stages",
            "'stages' must be >= 2: 1",
        ),
        ('schedule = { name = "edm", sigma_min = 9, sigma_max = 2 }', "schedule", "sigma_min = 9.0 must be below"),
        (
            'sharing = "unifide"',
            "sharing",
            "expected one of shared, separate, unified, got 'unifide'. Did you mean 'unified'?",
        ),
        ("sampling = { steps = 0 }", "sampling.steps", "'steps' must be >= 1: 0"),
        ("sampling = { steps = 1_000_000_000 }", "sampling.steps", "'steps' must be <= 10000"),
        ("sampling = { nfe = 1_000_000_000 }", "sampling.nfe", "'nfe' must be <= 10000"),
        ('budget = { compare = "x.toml" }', "budget.compare", "expected a list, got 'x.toml'"),
        (
            'budget = { compare = ["~nobody-here/x"] }',
            "budget.compare.0",
            "there is no home folder for '~nobody-here/x'",
        ),
        ('budget = { compare = ["a\\u0000"] }', "budget.compare.0", "expected a file name, got 'a\\x00'"),
    ],
)
def test_a_wrong_value_is_told_where_it_stands(write, line, key, message):
    """Types are exact, names and keys are known, at every depth; what was given and what is allowed is said."""
    (told,) = problems(write(BASE + line)).items()
    assert told[0] == key
    assert message in told[1]


@pytest.mark.parametrize(
    ("old", "new", "key", "message"),
    [
        ('data = { name = "digits" }', "", "data", "is missing"),
        ('name = "digits"', "", "data", 'expected a table with a name, { name = "..." }, or the name alone, got {}.'),
        ('name = "digits"', 'name = "zip"', "data.path", "is missing"),
        ('name = "digits"', 'name = "digtis"', "data.name", "no dataset named 'digtis'. Did you mean 'digits'?"),
        ('name = "digits"', 'name = "zip", path = "x", channels = 2', "data.channels", "must be in (1, 3) (got 2)"),
        (ONE, "[]", "decoders", "Length of 'decoders' must be >= 1: 0"),
        (ONE, "[7]", "decoders.0", "expected a table with a name"),
        (ONE, "{}", "decoders", "expected a list, got {}"),
        (ONE, '[{ name = "ddpmp" }]', "decoders.0.name", "'ddpmp'. Did you mean 'ddpmpp'?"),
        ("[1, 2]", "[]", "encoder.channel_mult", "Length of 'channel_mult' must be >= 1: 0"),
        ("[1, 2]", '[1, "2"]', "encoder.channel_mult.1", "expected a whole number, got '2'"),
        ("[1, 2]", "[1, 2, 2, 2, 2]", "encoder", "an image of 8x8 cannot be halved 4 times for level 4 of 5"),
        ("channels = 16, ch", "channels = 30, groups = 32, ch", "encoder", "30 channels cannot be split into 7"),
        ("channels = 16 }]", "channels = 37 }]", "decoders.0", "cannot be split into"),
        ("channels = 16 }]", "channels = 16, channel_mult = [1] }]", "decoders.0", "has 1 entries for 2 levels"),
    ],
)  # fmt: skip
def test_wrong_parts_are_told_where_they_stand(write, old, new, key, message):
    """Missing parts, unknown names, and parts that do not fit the image or each other."""
    assert old in BASE
    (told,) = problems(write(BASE.replace(old, new))).items()
    assert told[0] == key
    assert message in told[1]


def test_an_empty_recipe_says_what_is_needed(write):
    """All required parts are told together."""
    assert problems(write("")) == dict.fromkeys(["data", "encoder", "decoders"], "is missing")


@pytest.mark.parametrize(
    ("line", "key", "message"),
    [
        ("stages = { edges_ratio = [2.0, 0.5] }", "stages.edges_ratio", "must ascend, but 2.0 comes before 0.5"),
        ("stages = { edges_ratio = [0.5, 0.5] }", "stages.edges_ratio", "stage edges must ascend"),
        ("stages = { edges_ratio = [-1.0, 0.5] }", "stages.edges_ratio", "must be a finite ratio above 0, got -1.0"),
        ("stages = { edges_ratio = [0.5, 1e9] }", "stages.edges_ratio", "the edge ratio 1e+09 lies outside"),
        ("stages = { edges_t = [0.7, 0.3] }", "stages.edges_t", "stage edges must ascend, but 0.7 comes before 0.3"),
        ("stages = { edges_t = [0.3, 1.0] }", "stages.edges_t", "t = 1.0 lies outside the schedule's (0.0, 1.0)"),
        ('stages = { edges_t = [0.3, 81], schedule = { name = "edm" } }', "stages.edges_t", "t = 81.0 lies outside"),
        ("stages = { edges_t = [0.3, 0.7], edges_ratio = [0.5, 2.0] }", "stages", "one of edges_ratio, edges_t, not 2"),
        ('stages = { edges_ratio = [0.5, 2.0], schedule = { name = "edm" } }', "stages.schedule", "there is neither"),
        (f"schedule = {HUGE}\nstages = {{ edges_t = [0.3, 0.7] }}", "schedule", "(float division by zero)"),
        (f"stages = {{ edges_t = [0.3, 0.9], schedule = {HUGE} }}", "stages.edges_t", "(float division by zero)"),
        ("stages = { edges_ratio = [0.5] }", "decoders", "2 stages need as many decoders"),
        ('stages = { clustering = { name = "snr", stages = 4 } }', "decoders", "4 stages need as many decoders"),
        ('sharing = "unified"\nstages = { edges_ratio = [0.5, 2.0] }', "sharing", "there are 3"),
    ],
)  # fmt: skip
def test_stages_that_cannot_be_are_told(write, line, key, message):
    """Edges ascend, lie inside the schedule, are given one way, and have a decoder each."""
    (told,) = problems(write(THREE + line)).items()
    assert told[0] == key
    assert message in told[1]


@pytest.mark.parametrize(
    ("lines", "key", "message"),
    [
        ("sampling = { steps = 18, nfe = 35 }", "sampling", "give one of steps (intervals of the time grid), nfe"),
        ('sampler = { name = "heun" }\nsampling = { nfe = 34 }', "sampling.nfe", "the nearest are 33 and 35"),
        ('sampler = { name = "heun", rho = 1e-3 }', "sampler", "cannot be computed (Numerical result out of range)"),
        ('sampler = { name = "ddim", t_end = 1.5 }', "sampler", "t_end = 1.5 must be below"),
    ],
)  # fmt: skip
def test_sampling_that_cannot_be_is_told(write, lines, key, message):
    """Steps and nfe exclude each other, nfe must be reachable, and the grid must fit the schedule."""
    (told,) = problems(write(BASE + lines)).items()
    assert told[0] == key
    assert message in told[1]


@pytest.mark.parametrize(
    ("fields", "line", "key", "message"),
    [
        ("", "sampling = { guidance = 2.0 }", "sampling.guidance", "model: set encoder.classes, or leave"),
        ("", "sampling = { guidance_interval = [0.1, 2] }", "sampling.guidance_interval", "needs a class-conditional"),
        ("", "sampling = { label = 3 }", "sampling.label", "needs a class-conditional model"),
        ("classes = 10", "sampling = { label = 10 }", "sampling.label", "there is no class 10"),
        ("classes = 10", "sampling = { label = -2 }", "sampling.label", "must be >= -1"),
        ("classes = 10", "sampling = { guidance = -1 }", "sampling.guidance", "must be >= 0"),
        ("classes = 10", "sampling = { guidance_interval = [2, 2] }", "sampling.guidance_interval", "[2.0, 2.0]"),
        ("classes = 10", "sampling = { guidance_interval = [-1, 2] }", "sampling.guidance_interval", "0 <= low"),
        ("", "training = { label_dropout = 1.5 }", "training.label_dropout", "must be <= 1"),
        ("", "training = { augment = -0.1 }", "training.augment", "must be >= 0"),
        ("augment = 4", "training = { augment = 0.1 }", "encoder.augment", "gives 9 labels per image, not 4"),
    ],
)  # fmt: skip
def test_labels_that_cannot_be_are_told(write, fields, line, key, message):
    """Classes and guidance need a conditional encoder, an interval ascends, and augmentation has nine labels."""
    (told,) = problems(write(BASE.replace("[1, 2]", f"[1, 2], {fields}".rstrip(", ")) + line)).items()
    assert told[0] == key
    assert message in told[1]


def test_guidance_follows_the_recipe(write):
    """Weight and interval become the guidance of sampling; augmentation may go without labels, or with nine."""
    conditional = BASE.replace("[1, 2]", "[1, 2], classes = 10, augment = 9")
    recipe = load_recipe(write(conditional), ["sampling.guidance=2", "sampling.guidance_interval=[0.5, 3]"])
    assert (recipe.classes, recipe.guidance.weight, recipe.guidance.interval) == (10, 2.0, (0.5, 3.0))
    assert load_recipe(write(conditional), ["training.augment=0.1"]).training.augment == 0.1
    plain = load_recipe(write(BASE), ["training.augment=0.1"])
    assert (plain.classes, plain.guidance.weight, plain.guidance.interval) == (0, 1.0, None)


def test_nfe_counts_network_calls(write):
    """35 calls of Heun are 18 steps, the last of which makes one call."""
    recipe = load_recipe(write(BASE + 'sampler = { name = "heun" }\nsampling = { nfe = 35 }'))
    assert recipe.steps == 18


def test_nfe_settles_the_orders_of_dpm_solver(write):
    """The recipe's sampler and steps make exactly `nfe` calls together, and written out, for another `nfe` too."""
    recipe = load_recipe(write(BASE + 'sampler = { name = "dpm-solver" }\nsampling = { nfe = 18 }'))
    assert recipe.sampler.calls(recipe.steps) == [3, 3, 3, 3, 3, 2, 1]
    assert structure(tomllib.loads(to_toml(recipe)), "again") == recipe
    again = load_recipe(write(to_toml(recipe)), ["sampling.nfe=19"])
    assert again.sampler.calls(again.steps) == [3, 3, 3, 3, 3, 3, 1]


# --- clusterings ------------------------------------------------------------------------------------------------------


def test_edges_may_come_from_a_clustering_artefact(write, tmp_path):
    """`stages.from` reads edges_ratio of the one strategy in the file, from the folder of the recipe."""
    write(json.dumps({"strategies": [{"name": "snr", "edges_ratio": [0.5, 2.5]}]}), "runs/clustering.json")
    recipe = load_recipe(write(THREE + 'stages = { from = "runs/clustering.json" }'))
    assert recipe.stages.from_ is not None
    assert recipe.stages.from_.path == tmp_path / "runs/clustering.json"
    assert recipe.stages == Stages(edges_ratio=(0.5, 2.5))
    assert recipe.partition() == Partition((0.5, 2.5))
    assert structure(tomllib.loads(to_toml(recipe)), "again") == recipe


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "cannot be read: No such file"),
        ("", "is not the clustering of one strategy, as `msdk cluster` writes it"),
        ("[]", "is not the clustering of one strategy"),
        ("{}", "is not the clustering of one strategy"),
        ('{"strategies": []}', "is not the clustering of one strategy"),
        ('{"strategies": [{"edges_ratio": [1.0]}, {"edges_ratio": [2.0]}]}', "is not the clustering of one strategy"),
        ('{"strategies": [{"edges_t": [0.3]}]}', "is not the clustering of one strategy"),
        ('{"strategies": [{"edges_ratio": [null]}]}', "is not the clustering of one strategy"),
        ('{"strategies": [{"edges_ratio": ["1.0", true]}]}', "is not the clustering of one strategy"),
        ('{"strategies": [{"edges_ratio": "12"}]}', "is not the clustering of one strategy"),
        ('{"strategies": [{"edges_ratio": [1e400, 2]}]}', "is not the clustering of one strategy"),
        ('{"strategies": [{"edges_ratio": [2.5, 0.5]}]}', "stage edges must ascend"),
        (f'{{"strategies": [{{"edges_ratio": [1{"0" * 400}, 2]}}]}}', "is not the clustering of one strategy"),
    ],
)  # fmt: skip
def test_a_bad_artefact_is_told(write, content, message):
    """A missing, foreign or damaged file is a problem of `stages.from` that names the file."""
    if content is not None:
        write(content, "found.json")
    (told,) = problems(write(THREE + 'stages = { from = "found.json" }')).items()
    assert told[0] == "stages.from"
    assert message in told[1]


# --- plugins ----------------------------------------------------------------------------------------------------------


def test_a_plugin_cannot_spoil_a_default(write, monkeypatch):
    """A second owner of a default's name is told of only where a recipe writes the name, which means msdk's."""
    second = Origin("dpmpp-2m", "demo", "demo:Part")
    monkeypatch.setattr("msdk.registry.lookup.installed_parts", lambda: ({"samplers": [second]}, []))
    recipe = load_recipe(write(BASE))
    assert recipe.sampler == DPMpp2M(grid="uniform-t")
    assert structure(tomllib.loads(to_toml(recipe)), "again") == recipe
    with pytest.warns(MsdkWarning, match="'dpmpp-2m' is taken to be that of msdk.* must say 'demo:dpmpp-2m'"):
        assert load_recipe(write(BASE + 'sampler = { name = "dpmpp-2m" }')) == recipe


def test_networks_behind_an_autoencoder_see_latents(write):
    """The shape that encoder and decoders are checked with is that of the latents; weights may be missing."""
    path = write(BASE + 'autoencoder = { name = "vq-f4", channel_mult = [1, 2], weights = "vq.safetensors" }')
    recipe = load_recipe(path)
    assert (recipe.data.shape, recipe.shape) == ((1, 8, 8), (3, 4, 4))
    assert recipe.autoencoder.weights == path.parent / "vq.safetensors"
    assert load_recipe(write(BASE)).shape == (1, 8, 8)


@pytest.mark.parametrize(
    ("fields", "key", "message"),
    [
        ("channel_mult = [1, 1, 1, 1, 1]", "autoencoder", "images of 8x8 cannot be halved 4 times for 5 levels"),
        ("channels = 100", "autoencoder", "level 0: 100 channels cannot be split into 32 groups"),
        ("channel_mult = [1, 1, 1, 1]", "encoder", "an image of 1x1 cannot be halved 1 times"),
        ("code = 3", "autoencoder.code", "Did you mean 'codes'?"),
    ],
)
def test_an_autoencoder_that_does_not_fit_is_told(write, fields, key, message):
    """What the images or the networks do not suit is told at its place, once."""
    (found,) = problems(write(BASE + f'autoencoder = {{ name = "vq-f4", {fields} }}')).items()
    assert found[0] == key
    assert message in found[1]
