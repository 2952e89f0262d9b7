"""An encoder for each stage: how recipes give them, and what is wrong with those that do not fit."""

import json

import attrs
import pytest
import torch

import msdk
from msdk.errors import RecipeError, TargetError
from msdk.recipe import Recipe, cautions, load_recipe, to_data, to_toml
from msdk.recipe.differences import compare
from tests.recipes import tiny

SEPARATE = 'sharing="separate"'
WIDTHS = (8, 12, 16)


def encoders(*widths):
    """The key `encoders`, of the tiny recipe's encoder in these widths."""
    spec = to_data(tiny().encoder)
    tables = [{**spec, "channels": width} for width in widths]
    told = [", ".join(f"{key} = {json.dumps(value)}" for key, value in table.items()) for table in tables]
    return f"encoders=[{', '.join(f'{{{each}}}' for each in told)}]"


SEVERAL = (SEPARATE, encoders(*WIDTHS))


def told(*overrides, path="recipes/digits/base.toml"):
    with pytest.raises(RecipeError) as caught:
        load_recipe(path, overrides)
    return {problem.path: problem.message for problem in caught.value.problems}


def test_each_stage_has_its_own_encoder():
    """The network's encoders are those of the list, in its order, and each decoder fits the features of its own."""
    recipe = tiny(*SEVERAL)
    assert recipe.encoder is None
    assert [recipe.encoder_of(stage).channels for stage in range(3)] == list(WIDTHS)
    network = msdk.build(recipe).network
    stems = [encoder.stem.weight.shape[0] for encoder in network.encoders]
    assert stems == list(WIDTHS)
    for stage, own in enumerate(WIDTHS):
        one = load_recipe("recipes/digits/unified.toml", [f"encoder={{name='ddpmpp', channels={own}}}"])
        spec = attrs.evolve(one, encoder=recipe.encoder_of(stage), decoders=(recipe.decoders[stage],))
        there = {name: value.shape for name, value in msdk.build(spec, "meta").network.decoders[0].state_dict().items()}
        assert {name: value.shape for name, value in network.decoders[stage].state_dict().items()} == there


def test_alike_ones_are_what_one_is():
    """Three times the same encoder is `[encoder]` with separate sharing: the same weights and estimates, bitwise."""
    several, one = tiny(SEPARATE, encoders(8, 8, 8)), tiny(SEPARATE)
    assert all(several.encoder_of(stage) == one.encoder_of(stage) for stage in range(3))
    ours, theirs = msdk.build(several), msdk.build(one)
    torch.testing.assert_close(ours.state_dict(), theirs.state_dict(), rtol=0, atol=0)


def test_a_shared_encoder_is_built_once():
    recipe = tiny()
    assert recipe.built_encoders == (recipe.encoder,)
    assert len(msdk.build(recipe).network.encoders) == 1


@pytest.mark.parametrize(
    ("overrides", "path", "words"),
    [
        ((SEPARATE, encoders(8, 8)), "encoders", "has 2 entries for 3 stages: give one for each"),
        ((SEPARATE, "encoders=[]"), "encoders", "has 0 entries for 3 stages"),
        ((encoders(8, 8, 8),), "encoders", 'sharing is "shared": set sharing = "separate"'),
        ((*SEVERAL, "encoder.channels=4"), "encoders", "leave out one of the two"),
        ((SEPARATE, "encoders.1.channels=4"), "encoders.1.channels", "there is no list encoders"),
        ((*SEVERAL, "encoders.3.channels=4"), "encoders.3.channels", "there is no entry 3: the list has 3"),
        ((*SEVERAL, "encoders.1.channels=30", "encoders.1.groups=32"), "encoders.1", "30 channels cannot be split"),
        (
            (*SEVERAL, "encoders.2.classes=10"),
            "encoders.2.classes",
            "takes 10 classes of labels, but encoders.0 takes 0",
        ),
        ((*SEVERAL, "encoders.1.unit_range=true"), "encoders.1.unit_range", "is not that of encoders.0"),
        ((*SEVERAL, "encoders.1.chanels=4"), "encoders.1.chanels", "unknown key. Did you mean 'channels'?"),
        ((*SEVERAL, "encoders.1.name=ddpmp"), "encoders.1.name", "ddpmp"),
        ((*SEVERAL, "encoders.1.name=uvit"), "decoders.1", "tokens"),
        ((*SEVERAL, "encoders.1.name=ncsnpp"), "encoders.1", "logarithm"),
        ((SEPARATE, "encoders=3"), "encoders", "expected a list"),
        ((SEPARATE, encoders(2**25, 8, 8)), "encoders.0.channels", "is beyond any network"),
    ],
)
def test_encoders_that_cannot_be_are_told(tmp_path, overrides, path, words):
    """With their place, what is given, and what would do."""
    base = tmp_path / "r.toml"
    base.write_text(to_toml(tiny()))
    found = told(*overrides, path=base)
    assert words in found[path]


def test_an_overlay_chooses_one_of_the_two(tmp_path):
    """`encoders` over `encoder` and back: the last one counts, as with other choices."""
    base, over, back = (tmp_path / name for name in ("base.toml", "over.toml", "back.toml"))
    base.write_text(to_toml(tiny()))
    several = encoders(*WIDTHS).removeprefix("encoders=")
    over.write_text(f'extends = "base.toml"\n{SEPARATE}\nencoders = {several}\n')
    back.write_text(
        'extends = "over.toml"\n[encoder]\nname = "ddpmpp"\nchannels = 8\nchannel_mult = [1, 2]\nblocks = 1\n'
    )
    assert load_recipe(over).encoder is None
    assert load_recipe(back).encoders is None
    assert load_recipe(over, ["encoders.1.channels=20"]).encoder_of(1).channels == 20


def test_it_round_trips_and_differs_by_key(tmp_path):
    """The resolved recipe reads back to an equal one; a recipe without the list does not have its key."""
    recipe = tiny(*SEVERAL)
    file = tmp_path / "r.toml"
    file.write_text(to_toml(recipe))
    assert load_recipe(file) == recipe
    assert "[[encoders]]" in to_toml(recipe)
    assert "encoders" not in to_toml(tiny())
    other = tiny(*SEVERAL, "encoders.1.channels=20")
    assert [(each.path, each.a, each.b) for each in compare(recipe, other)] == [("encoders.1.channels", 12, 20)]
    assert "encoders ddpmpp, ddpmpp, ddpmpp, separate" in repr(recipe)


def test_cautions_name_the_encoder():
    recipe = tiny(*SEVERAL, "encoders.2.attention=[3]")
    assert any("encoders.2.attention asks for 3" in line for line in cautions(recipe))


def test_widths_are_solved_for_behind_one_encoder():
    from msdk.budgeting.questions import Question
    from msdk.budgeting.solving import solve

    with pytest.raises(TargetError, match=r"behind one \[encoder\].*\[\[encoders\]\]"):
        solve(tiny(*SEVERAL), Question(target=1e6))


def test_a_recipe_made_in_python_is_checked():
    recipe = tiny(*SEVERAL)
    with pytest.raises(RecipeError, match="is missing"):
        msdk.recipe.checked(attrs.evolve(recipe, encoders=None), "here")
    assert isinstance(msdk.recipe.checked(recipe, "here"), Recipe)
