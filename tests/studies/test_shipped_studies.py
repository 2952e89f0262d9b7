"""The studies that are shipped: data alone, each of whose sizes loads and is priced."""

import tomllib
from pathlib import Path

import pytest

import msdk
from msdk.partition import Partition
from msdk.studies import load_study, planning
from msdk.studies.planning import plan

STUDIES = sorted(Path("recipes/studies").glob("*.toml"))
SIZES = [(path, size) for path in STUDIES for size in tomllib.loads(path.read_text())["sizes"]]


@pytest.fixture
def _cut(monkeypatch):
    """Stages are cut evenly, without looking at data: prices are of networks."""

    def even(recipe, **_):
        count = len(recipe.decoders)
        edges = tuple(0.3 * 5**step for step in range(count - 1))
        return (recipe.with_partition(Partition(edges)) if recipe.clustered else recipe), None

    monkeypatch.setattr(planning, "with_edges", even)


@pytest.mark.usefixtures("_cut")
@pytest.mark.parametrize(("path", "size"), SIZES, ids=lambda value: getattr(value, "stem", value))
def test_every_size_is_priced(path, size):
    """Every arm is a good recipe, has a price, and learns as the others do but for what is asked about."""
    study = load_study(path, size)
    whole = plan(study)
    assert len(whole.kept) == len(study.arms) >= 2
    assert all(each.price.flops > 0 and each.price.paper_macs > 0 for each in whole.variants)
    assert len({each.recipe.training.lr for each in whole.variants}) == 1
    assert len({(each.recipe.data, each.recipe.weighting, each.recipe.training.noise) for each in whole.variants}) == 1
    if study.study.equal == "flops":
        first = whole.variants[0].price
        for each in whole.variants:
            look = each.price.flops / each.price.iterations * study.study.checkpoints
            assert each.price.flops == pytest.approx(first.flops, abs=0.51 * look)


def test_the_paper_numbers_are_those_of_table_2():
    """What stands beside what is found is what our own counts give, to the digits that the paper prints."""
    study = load_study("recipes/studies/fig1d.toml", "paper")
    for name, arm in study.arms.items():
        recipe = msdk.load_recipe(arm.recipe)
        assert recipe.training.iterations == arm.paper["iterations"]
        found = msdk.budget(recipe, convention="paper").training.paper_pflops
        assert found == pytest.approx(arm.paper["PFLOPs"], abs=0.006), name
