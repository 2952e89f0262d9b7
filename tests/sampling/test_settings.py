"""Sampling as the recipe says, once: Python, commands and recipes settle the same call."""

import functools
import json

import attrs
import numpy as np
import pytest
import torch
from commands import quick
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

import msdk
from msdk.errors import PartError, UnknownNameError
from msdk.samplers.guidance import Guidance
from msdk.samplers.staged import Staged
from msdk.sampling import overridden, settings_of
from msdk.sampling.pictures import to_pixels
from recipes import tiny

DDIM, Heun, DPM = (msdk.samplers.get(name) for name in ("ddim", "heun", "dpm-solver"))
EVEN = functools.partial(DDIM, grid="uniform-t")
"""What a recipe holds where it leaves the grid to the tiny recipe's schedule."""

SAYS = (
    "encoder.classes=10",
    "training.label_dropout=0.1",
    'sampler={name="ddim", eta=1.0}',
    "sampling.images=5",
    "sampling.seed=7",
    "sampling.batch_size=2",
    "sampling.label=3",
    "sampling.guidance=2.5",
    "sampling.guidance_interval=[0.2, 8.0]",
    'sampling.noise="brownian"',
)
"""A recipe that says everything about sampling in another way than the defaults."""


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run of a class-conditional recipe, whose last layers have moved enough for settings to show."""
    place = tmp_path_factory.mktemp("runs") / "run"
    msdk.train(tiny(*SAYS, "training.lr=0.01", "training.iterations=8"), place)
    return place


def drawn(folder, seeds):
    """The images that a command wrote, [images, c, h, w]."""
    found = []
    for seed in seeds:
        with Image.open(folder / f"{seed:06d}.png") as image:
            found.append(torch.from_numpy(np.array(image))[None])
    return torch.stack(found)


def test_python_draws_what_the_command_draws(run, tmp_path, capsys, monkeypatch):
    """`msdk.sample(msdk.load_run(R))` has the very pixels of `msdk sample R`: no setting of the recipe is lost."""
    code, _, err = quick(capsys, monkeypatch, "sample", run, "--out", tmp_path / "all", "--device", "cpu")
    assert code == 0, err
    images = to_pixels(msdk.sample(msdk.load_run(run)))
    assert len(images) == 5
    assert torch.equal(images, drawn(tmp_path / "all", range(7, 12)))


@pytest.mark.parametrize(
    ("words", "arguments"),
    [
        ("--sampler heun --steps 3 --seeds 1,4", {"sampler": "heun", "steps": 3, "seeds": [1, 4]}),
        ("--label 8 --seeds 0-1", {"label": 8, "seeds": [0, 1]}),
        ("--guidance 1 --seeds 0-1", {"guidance": 1.0, "seeds": range(2)}),
        ("--sampler euler --seeds 0-1", {"sampler": "euler", "seeds": [0, 1]}),
    ],
)
def test_overrides_mean_the_same(run, tmp_path, capsys, monkeypatch, words, arguments):
    """What is said on the command line and in Python changes that alone."""
    code, _, err = quick(capsys, monkeypatch, "sample", run, *words.split(), "--out", tmp_path / "o", "--device", "cpu")
    assert code == 0, err
    images = to_pixels(msdk.sample(msdk.load_run(run), **arguments))
    assert torch.equal(images, drawn(tmp_path / "o", arguments["seeds"]))
    plain = to_pixels(msdk.sample(msdk.load_run(run), seeds=arguments["seeds"]))
    assert not torch.equal(images, plain)


def test_all_that_a_recipe_says_is_settled():
    """Each key of [sampling] reaches the call."""
    found = settings_of(tiny(*SAYS))
    assert (found.sampler, found.steps, list(found.seeds), found.batch_size) == (EVEN(eta=1.0), 4, [7, 8, 9, 10, 11], 2)
    assert (found.label, found.noise) == (3, "brownian")
    assert found.guidance == Guidance(weight=2.5, interval=(0.2, 8.0))


said = st.fixed_dictionaries(
    {},
    optional={
        "sampler": st.sampled_from(["heun", DDIM(eta=0.5)]),
        "steps": st.integers(1, 9),
        "seeds": st.lists(st.integers(0, 99), min_size=1, max_size=4),
        "batch_size": st.integers(1, 9),
        "label": st.one_of(st.integers(-1, 9), st.lists(st.integers(-1, 9), min_size=1)),
        "guidance": st.floats(0, 5),
        "guidance_interval": st.just((0.5, 2.0)),
        "noise": st.sampled_from(["fresh", "brownian"]),
    },
)


@settings(derandomize=True, deadline=None, max_examples=100)
@given(said, said)
def test_the_last_word_counts(first, second):
    """What is said counts, all else is the recipe's; saying it once more in another way leaves nothing of the first."""
    recipe = tiny(*SAYS)
    plain, found = settings_of(recipe), settings_of(recipe, **first)
    for key in ("steps", "seeds", "batch_size", "label", "noise"):
        assert getattr(found, key) == first.get(key, getattr(plain, key))
    assert found.guidance.weight == first.get("guidance", 2.5)
    assert found.guidance.interval == first.get("guidance_interval", (0.2, 8.0))
    assert found.sampler == {"heun": Heun(), None: EVEN(eta=1.0)}.get(first.get("sampler"), EVEN(eta=0.5))
    whole = {"sampler": EVEN(), "steps": 3, "seeds": [1], "label": 0, "guidance": 1.0, **second}
    assert settings_of(None, **whole).sampler.on(recipe.schedule) == settings_of(recipe, **whole).sampler
    assert settings_of(None, **whole).steps == settings_of(recipe, **whole).steps


def test_a_name_is_the_recipes_own_sampler_or_one_with_defaults():
    """As `sampler.name` in a recipe: its own name changes nothing, another one drops all settings of the old part."""
    recipe = tiny(*SAYS)
    assert settings_of(recipe, sampler="ddim").sampler == recipe.sampler == EVEN(eta=1.0)
    assert settings_of(recipe, sampler="heun").sampler == Heun()
    assert settings_of(None, sampler="ddim", steps=2, seeds=[0]).sampler == DDIM()


def test_another_sampler_keeps_the_number_of_calls():
    """`nfe` and `steps_per_stage` stay for another sampler, and go where steps are said."""
    calls = tiny("sampler.name=heun", "sampling.nfe=19")
    assert settings_of(calls, sampler="ddim").steps == 19
    assert settings_of(calls, sampler="dpm-solver").sampler == DPM().spending(19)
    assert settings_of(calls, steps=3).steps == 3
    staged = tiny("sampling.steps_per_stage=[1, 2, 3]")
    found = settings_of(staged, sampler="ddim").sampler
    assert isinstance(found, Staged)
    assert (found.samplers, found.steps) == ((EVEN(),), (1, 2, 3))
    assert settings_of(staged, sampler="ddim", steps=5).sampler == EVEN()
    explicit = settings_of(staged, sampler=staged.solver, steps=staged.steps)
    assert (explicit.sampler, explicit.steps) == (staged.solver, 6)


def test_a_sampler_for_each_stage():
    """One sampler for all takes the place of those of the stages; other steps alone leave nothing to deal out."""
    each = ("sampling.steps_per_stage=[1, 2, 3]", 'samplers=[{name="heun"}, {name="ddim"}, {name="ddim"}]')
    recipe = tiny(*each)
    assert settings_of(recipe).sampler == recipe.solver
    found = settings_of(recipe, sampler="ddim").sampler
    assert isinstance(found, Staged)
    assert found.samplers == (EVEN(),)
    with pytest.raises(PartError, match="name one sampler as well"):
        settings_of(recipe, steps=4)


def test_without_a_recipe_all_must_be_said():
    """A denoiser that was joined from parts has nobody to ask; the message names what is missing."""
    denoiser = msdk.build(tiny()).eval()
    denoiser.recipe = None
    with pytest.raises(PartError, match=r"knows no recipe that could say its sampler and steps and seeds: give them"):
        msdk.sample(denoiser)
    with pytest.raises(PartError, match=r"could say its seeds: give them, or take a denoiser of msdk\.load_run"):
        msdk.sample(denoiser, "ddim", 2)
    assert msdk.sample(denoiser, "ddim", 2, [0]).shape == (1, 1, 8, 8)


def test_a_built_denoiser_knows_its_recipe():
    """Also where the edges were found after the recipe was read."""
    recipe = tiny('stages={clustering={name="snr"}}', "sampling.steps_per_stage=[1, 1, 2]")
    partition = msdk.cluster(recipe).partition()
    denoiser = msdk.build(recipe, partition=partition).eval()
    assert denoiser.recipe == recipe.with_partition(partition)
    assert msdk.sample(denoiser, seeds=[3]).shape == (1, 1, 8, 8)


def test_wrong_words_are_told():
    """An unknown sampler, numbers out of range, and a sampler that cannot be had by its name."""
    with pytest.raises(UnknownNameError, match="Did you mean 'heun'"):
        settings_of(tiny(), sampler="huen")
    with pytest.raises(PartError, match=r"'steps' must be >= 1: 0"):
        settings_of(tiny(), steps=0)
    with pytest.raises(PartError, match=r"'guidance' must be >= 0: -1"):
        overridden(tiny(), guidance=-1)


def test_a_recipe_samples_as_overridden():
    """A recipe that was overridden settles the same call as the overrides themselves."""
    recipe = tiny(*SAYS)
    changed = overridden(recipe, sampler="heun", steps=3, label=5, guidance=4.0)
    again = settings_of(recipe, sampler="heun", steps=3, label=5, guidance=4.0)
    assert settings_of(changed) == again
    assert settings_of(changed).label == again.label == 5
    assert attrs.evolve(changed, sampler=recipe.sampler, sampling=recipe.sampling) == recipe


def test_another_sampler_for_a_run_with_one_for_each_stage(tmp_path, capsys, monkeypatch):
    """`msdk sample RUN --sampler X` draws by X where the run has a sampler for each stage, too."""
    ddim = '{name="ddim"}'
    recipe = tiny("sampling={steps_per_stage=[1,2,1],images=1}", f"samplers=[{ddim},{ddim},{ddim}]")
    msdk.train(recipe, tmp_path / "run")
    words = ("--sampler", "heun", "--steps", "3", "--seeds", "0", "--out", tmp_path / "out")
    code, _, err = quick(capsys, monkeypatch, "sample", tmp_path / "run", *words)
    assert code == 0, err
    assert json.loads((tmp_path / "out" / "samples.json").read_text())["samplers"][0]["name"] == "heun"


def test_a_batch_of_no_image_is_refused():
    """Sizes that no batch can have are told in words."""
    with pytest.raises(PartError, match="at least 1, got 0"):
        settings_of(tiny(), batch_size=0)
