"""Promises of msdk.cluster: reproducible artefacts that recipes point to."""

import json

import attrs
import pytest

import msdk
from msdk.clustering import write_clusters, write_edges
from msdk.errors import RunError
from msdk.recipe import structure
from msdk.structuring import to_data
from recipes import tiny


@pytest.fixture(scope="module")
def digits():
    return msdk.load_recipe("recipes/digits/multistage.toml", ["stages.clustering.draws=400"])


def test_the_same_seed_finds_the_same_edges(digits):
    """A clustering is a function of recipe and seed; edges in t and ratio say the same."""
    first, again, other = (msdk.cluster(digits, seed=seed) for seed in (1, 1, 2))
    assert first.strategies[0].edges_t == again.strategies[0].edges_t != other.strategies[0].edges_t
    strategy = first.strategies[0]
    assert strategy.edges_ratio == tuple(digits.schedule.ratio(t) for t in strategy.edges_t)
    assert strategy.settings["draws"] == 400
    assert first.data["images"] == 1797


def test_compare_runs_every_strategy(digits):
    """--compare has every registered strategy, the recipe's own settings among them."""
    found = msdk.cluster(digits, compare=True)
    assert [one.name for one in found.strategies] == msdk.clusterings.names()
    by_name = {one.name: one for one in found.strategies}
    assert by_name["timestep"].edges_t == pytest.approx((0.334, 0.667))
    assert by_name["snr"].edges_t == pytest.approx((0.348, 0.709))
    assert by_name["optimal-denoiser"].settings["draws"] == 400


def test_strategies_that_look_at_no_data_open_none(tmp_path):
    """SNR needs no images, so a recipe whose data is elsewhere can still be cut."""
    recipe = msdk.load_recipe("recipes/cifar10/dpm-multistage.toml")
    assert msdk.cluster(recipe, strategy="snr").strategies[0].edges_t == pytest.approx((0.348, 0.709))


def test_an_artefact_is_what_a_recipe_points_to(digits, tmp_path):
    """`stages.from` gives the very edges that were found, and an artefact is not overwritten unasked."""
    found = msdk.cluster(digits, strategy="snr")
    path = tmp_path / "edges.json"
    write_clusters(path, found)
    with pytest.raises(RunError, match="exists: replace it with --force"):
        write_clusters(path, found)
    document = json.loads(path.read_text())
    assert document["schedule"] == "vp-linear"
    assert {"name", "edges_t", "edges_ratio", "settings", "seconds", "curves"} <= set(document["strategies"][0])
    data = to_data(tiny())
    data["stages"] = {"from": str(path)}
    assert structure(data, "test").partition() == found.partition()


def test_writing_edges_keeps_comments(digits, tmp_path):
    """--write changes the stages of a recipe file and nothing else of it."""
    path = tmp_path / "mine.toml"
    text = (
        "# my notes\n" + msdk.recipe.to_toml(attrs.evolve(digits, budget=msdk.recipe.BudgetOptions())) + "# the end\n"
    )
    path.write_text(text)
    found = msdk.cluster(digits)
    write_edges(path, found)
    written = path.read_text()
    assert written.startswith("# my notes")
    assert "# found by optimal-denoiser" in written
    loaded = msdk.load_recipe(path)
    assert loaded.partition() == found.partition()
    assert loaded.encoder == digits.encoder


def test_edges_carry_to_another_schedule():
    """A recipe on the EDM schedule can cluster the time of another one: the ratio of the edges is what carries over."""
    recipe = msdk.load_recipe(
        "recipes/digits/multistage.toml",
        ['schedule={name="edm"}', 'stages.schedule={name="vp-linear"}', "sampler.name=heun", "budget.compare=[]"],
    )
    found = msdk.cluster(recipe)
    assert found.schedule == "vp-linear"
    assert found.partition() == msdk.cluster(msdk.load_recipe("recipes/digits/multistage.toml")).partition()
    assert recipe.with_partition(found.partition()).partition() == found.partition()
