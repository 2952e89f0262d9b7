"""All mistakes of a recipe at once: of reading, names, fields, and of what fits what; and none that only follows."""

import datetime

import attrs
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from msdk.errors import RecipeError
from msdk.recipe import Recipe, load_recipe, structure
from msdk.recipe.checks import misfits
from msdk.recipe.salvaging import UNKNOWN, NotKnown, salvaged
from msdk.recipe.structuring import to_data
from recipes import tiny

BASE = """
data = { name = "digits" }
encoder = { name = "ddpmpp", channels = 32, channel_mult = [1, 2] }
decoders = [{ name = "ddpmpp", channels = 32 }]
"""
ONE, BARE = '[{ name = "ddpmpp", channels = 32 }]', '["ddpmpp"]'


def problems(path, *overrides):
    """Path -> message of each mistake."""
    with pytest.raises(RecipeError) as caught:
        load_recipe(path, overrides)
    found = {problem.path: problem.message for problem in caught.value.problems}
    assert len(found) == len(caught.value.problems)
    return found


@pytest.fixture
def write(tmp_path):
    def written(text, name="recipe.toml"):
        (tmp_path / name).write_text(text)
        return tmp_path / name

    return written


def test_every_phase_is_told_at_once(write):
    """A file that cannot be read, an override, a name, a type, a bound, and what does not fit."""
    write("[sampler\n", "broken.toml")
    path = write(
        'extends = ["broken.toml", "gone.toml"]\n'
        + BASE.replace("channels = 32 }", "channels = 37 }")
        + "[training]\nlr = 'fast'\nbatch_size = 10\naccumulation = 3\nnoise = 'emd'\n[sampling]\nsteps = 3\nnfe = 4\n"
    )
    with pytest.raises(RecipeError) as caught:
        load_recipe(path, ["decoders.7=1", "sharing=none"])
    told = [problem.path for problem in caught.value.problems]
    assert sorted(told) == [  # whether decoders fit is not known: a file may set more of the encoder
        "decoders.7",
        "extends",
        "extends",
        "sampling",
        "sharing",
        "training.accumulation",
        "training.lr",
        "training.noise.name",
    ]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("encoder.channels = 'many'\ndecoders = [{ name = 'ddpmpp', channels = 37 }]", ["encoder.channels"]),
        ("encoder = { name = 'ddpmp', channels = 37 }", ["encoder.name"]),
        (
            "schedule = { name = 'vp-linear', beta_min = 'x' }\nstages = { edges_ratio = [1e9] }",
            ["decoders", "schedule.beta_min"],
        ),
        ("stages = { edges_ratio = ['x'] }", ["stages.edges_ratio.0", "decoders"]),
        ("stages = { clustering = 'snrr' }", ["stages.clustering.name"]),
        ("stages = { schedule = 'edmm', edges_t = [0.3] }", ["stages.schedule.name", "decoders"]),
        ("autoencoder = 'kll'\nsampling = { wrap = ['clip'] }", ["autoencoder.name"]),
        ("sampling = { label = 'x', guidance = 2.0 }", ["sampling.label", "sampling.guidance"]),
        ("training = { batch_size = 'x', accumulation = 3, augment = 2 }", ["training.batch_size", "training.augment"]),
        ("sampler = { name = 'ab', order = 9 }\nsampling = { steps = 2 }", ["sampler.name"]),
        ("use = ['none.py']\nsampler = 'mine'", ["use.0"]),
    ],
)
def test_what_follows_from_a_mistake_is_not_told(write, text, told):
    """A check that would need the right value keeps silent; the others do not."""
    keys = {line.partition("=")[0].strip().partition(".")[0] for line in text.splitlines()}
    kept = "".join(line + "\n" for line in BASE.splitlines() if line.partition(" ")[0] not in keys)
    if text.startswith("encoder.channels"):
        text += "\nencoder.name = 'ddpmpp'"
    assert sorted(problems(write(text + "\n" + kept))) == sorted(told)


def test_what_an_unread_file_may_say_is_not_missed(write):
    """Keys and names that are not there may stand in it; what is there is judged."""
    write("a = [", "base.toml")
    path = write('extends = "base.toml"\nsampler = { rho = 3.0 }\ntraining = { lr = 0 }\ndecoders = []\n')
    assert sorted(problems(path)) == ["decoders", "extends", "training.lr"]


RECIPE = to_data(tiny('sampling={steps_per_stage=[2, 2, 2], wrap=["clip"]}', "stages={edges_t=[0.2, 0.5]}"))


def leaves(data, path=()):
    if isinstance(data, (dict, list)):
        for key, value in data.items() if isinstance(data, dict) else enumerate(data):
            yield (*path, key)
            yield from leaves(value, (*path, key))


def changed(data, path, value):
    """The data with another value at a path."""
    if not path:
        return value
    copy = dict(data) if isinstance(data, dict) else list(data)
    copy[path[0]] = changed(copy[path[0]], path[1:], value)
    return copy


def named(path):
    """Where a wrong value is told: a name that is none is the mistake of its table, whose fields nothing knows then."""
    return path[:-1] if path[-1] == "name" else path


@settings(derandomize=True, deadline=None, max_examples=150, suppress_health_check=list(HealthCheck))
@given(
    st.lists(st.sampled_from(list(leaves(RECIPE))), min_size=1, max_size=3),
    st.sampled_from([datetime.date(2026, 1, 1), {"x": {}}]),
)
def test_wrong_values_tell_of_themselves_alone(paths, wrong):
    """In a good recipe, whatever is replaced by what no key takes is told, and nothing else is."""
    data, broken, names = RECIPE, [], []
    for path in sorted(paths, key=lambda path: len(named(path))):
        if not any(path[: len(other)] == other for other in names):
            data = changed(data, path, wrong)
            broken.append(path)
            names.append(named(path))
    with pytest.raises(RecipeError) as caught:
        structure(data, "broken")
    told = [tuple(problem.path.split(".")) for problem in caught.value.problems]
    names = [tuple(map(str, path)) for path in names]
    for place in told:
        assert any(place[: len(name)] == name for name in names), (place, broken)
    assert all(any(place[: len(name)] == name for place in told) for name in names)


def test_a_good_recipe_is_salvaged_whole():
    """What can be known of it is all of it; without defaults, what the data say."""
    assert salvaged(RECIPE, Recipe) == structure(RECIPE, "good")
    partial = salvaged({"title": "x", "training": {"lr": 0.5}}, Recipe, defaults=False, finished=False)
    assert (partial.title, partial.training.lr) == ("x", 0.5)
    assert partial.training.seed is partial.sampler is UNKNOWN
    assert list(misfits(partial)) == []


@pytest.mark.parametrize(
    "ask",
    [
        lambda it: it.x,
        lambda it: it == 1,
        lambda it: it > 1,
        lambda it: 2 * it,
        lambda it: it + it,
        lambda it: bool(it),
        lambda it: 3 in it,
        lambda it: it in (1, 2),
        lambda it: len(it),
        lambda it: [*it],
        lambda it: float(it),
        lambda it: range(it),
        lambda it: f"{it}",
        lambda it: isinstance(it, int),
        lambda it: attrs.evolve(it),
        lambda it: {it},
    ],
)
def test_what_is_not_known_answers_nothing(ask):
    """Whatever is asked."""
    with pytest.raises(NotKnown):
        ask(UNKNOWN)


# --- parts by name alone ----------------------------------------------------------------------------------------------


def test_a_part_may_be_a_bare_name(write):
    """Wherever a part stands, also in lists, it is the table with that name."""
    bare = write(
        BASE.replace('{ name = "digits" }', '"digits"').replace(ONE, BARE)
        + 'sampler = "heun"\ntraining = { noise = "edm", optimizer = "sgd" }\nsampling = { wrap = ["clip"] }\n'
    )
    recipe = load_recipe(bare)
    data = to_data(recipe)
    assert (data["data"]["name"], data["decoders"][0]["name"], data["sampler"]["name"]) == ("digits", "ddpmpp", "heun")
    assert structure(data, "again") == recipe


@pytest.mark.parametrize(
    ("base", "over"),
    [
        ("sampler = { name = 'heun', rho = 3.0 }", "sampler = 'heun'"),
        ("sampler = { name = 'ddim', eta = 0.5 }\n", "sampler = 'heun'"),
        ("sampler = 'heun'", "sampler = { rho = 3.0 }"),
        ("sampler = 'heun'", "sampler = { name = 'ddim', eta = 0.5 }"),
        ("sampler = 'heun'", "sampler = 'ddim'"),
    ],
)
def test_names_merge_as_their_tables_do(write, base, over):
    """`"heun"` is `{ name = "heun" }` in files that extend each other, whichever has which."""

    def sampler(below, above):
        write(BASE + below, "base.toml")
        return load_recipe(write(f'extends = "base.toml"\n{above}')).sampler

    def table(text):
        key, value = text.split("=", 1)
        return text if "{" in value else f"{key} = {{ name = {value} }}"

    assert sampler(base, over) == sampler(table(base.strip()), table(over))


def test_settings_are_set_below_a_name(write):
    """`--set` reaches into a part that is given by name, and names a part as well."""
    path = write(BASE.replace(ONE, BARE) + 'sampler = "heun"')
    found = load_recipe(path, ["sampler.rho=3.0", "decoders.0.channels=8", "training.noise=edm"])
    assert (found.sampler.rho, found.decoders[0].channels) == (3.0, 8)
    assert load_recipe(path, ["sampler=ddim", "sampler.eta=0.5"]).sampler.eta == 0.5


def test_a_quoted_dotted_key_is_explained(write):
    """It is one key to TOML, which nobody means."""
    path = write(BASE + '"training.lr" = 1\n[sampling]\n"a.b" = 2\n')
    told = problems(path)
    assert told["training.lr"].startswith('is one key, "training.lr", as its dots stand in quotes: write training.lr')
    assert set(told) == {"training.lr", "sampling.a.b"}


# --- whose mistake it is ----------------------------------------------------------------------------------------------


def test_mistakes_of_overrides_are_theirs(write):
    """What is wrong only with `--set` names it, also where two keys do not fit each other."""
    good = write(BASE)
    with pytest.raises(RecipeError, match=r"recipe\.toml, as --set changes it, has 1 problem") as caught:
        load_recipe(good, ["stages.edges_ratio=[1.0]", "training.seed=3"])
    (told,) = caught.value.problems
    assert (told.path, told.source) == ("decoders", "--set stages.edges_ratio=[1.0] --set training.seed=3")
    with pytest.raises(RecipeError, match=r"recipe\.toml has 2 problems") as caught:
        load_recipe(write(BASE + "training = { batch_size = 10, accumulation = 3 }"), ["stages.edges_ratio=[1.0]"])
    assert {problem.path: problem.source for problem in caught.value.problems} == {
        "decoders": "--set stages.edges_ratio=[1.0]",
        "training.accumulation": str(good),
    }
