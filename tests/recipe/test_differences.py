"""Promises of comparing recipes: only what differs, with the path that --set takes, defaults told apart."""

from pathlib import Path

import pytest

from msdk.recipe import load_recipe
from msdk.recipe.differences import compare
from recipes import tiny

SHIPPED = sorted(
    str(path) for path in Path("recipes").rglob("*.toml") if path.name != "base.toml" and path.parent.name != "studies"
)


@pytest.mark.parametrize("path", SHIPPED)
def test_a_recipe_does_not_differ_from_itself(path):
    """Read twice, it says the same."""
    assert compare(load_recipe(path), load_recipe(path)) == []


@pytest.mark.parametrize("other", SHIPPED)
def test_both_ways_are_mirrored(other):
    """The other way round, the same keys differ, with the values exchanged."""
    a, b = load_recipe("recipes/cifar10/dpm-multistage.toml"), load_recipe(other)
    there = {(one.path, str(one.a), str(one.b), one.a_default, one.b_default) for one in compare(a, b)}
    back = {(one.path, str(one.b), str(one.a), one.b_default, one.a_default) for one in compare(b, a)}
    assert there == back


@pytest.mark.parametrize(
    ("override", "path", "values", "defaults"),
    [
        ("training.lr=0.01", "training.lr", (0.003, 0.01), (False, False)),
        ("training.seed=0", "training.seed", (1, 0), (False, True)),
        ("decoders.1.channels=64", "decoders.1.channels", (8, 64), (False, False)),
        ("title=other", "title", ("", "other"), (True, False)),
        ("encoder.attention=[4, 2]", "encoder.attention.1", (None, 2), (False, False)),
        ("sampling.label=-1", None, None, None),
    ],
)
def test_one_key(override, path, values, defaults):
    """A changed key is one row: its path, both values, and which of them nobody needed to set."""
    extra = () if path else ("encoder.classes=10",)
    found = compare(tiny(*extra), tiny(*extra, override))
    assert len(found) == 1
    (one,) = found
    if path is None:  # a key that is optional: absent on one side
        assert (one.path, one.a, one.b) == ("sampling.label", None, -1)
    else:
        assert (one.path, (one.a, one.b), (one.a_default, one.b_default)) == (path, values, defaults)


def test_a_written_default_is_no_difference():
    """What counts is what a recipe means, not how it is spelt."""
    assert compare(tiny(), tiny("training.ema_half_life=0", "sharing=shared", "schedule={name='vp-linear'}")) == []


def test_parts_of_other_names():
    """The name differs, and so does every key that only one of the parts has; keys come in the order of a recipe."""
    found = {one.path: one for one in compare(tiny(), tiny("sampler={name='heun'}", "training.seed=7"))}
    assert (found["sampler.name"].a, found["sampler.name"].b) == ("dpmpp-2m", "heun")
    assert found["sampler.final_denoise"].b is None
    first, *rest = found
    assert first == "training.seed"
    assert all(path.startswith("sampler.") for path in rest)
