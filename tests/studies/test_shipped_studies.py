"""The studies that are shipped: data alone, each of whose sizes loads and is priced."""

import tomllib
from pathlib import Path

import pytest

import msdk
from msdk.partition import Partition
from msdk.studies import load_study, planning, results
from msdk.studies.planning import plan

STUDIES = sorted(Path("recipes/studies").glob("*.toml"))
SIZES = [(path, size) for path in STUDIES for size in tomllib.loads(path.read_text()).get("sizes", [""])]


@pytest.fixture
def _cut(monkeypatch):
    """Stages are cut evenly, without looking at data: prices are of networks."""

    def even(recipe, **_):
        count = len(recipe.decoders)
        edges = tuple(0.3 * 5**step for step in range(count - 1))
        return (recipe.with_partition(Partition(edges)) if recipe.clustered else recipe), None

    monkeypatch.setattr(planning, "with_edges", even)


NAMES = {"fig1d", "fig2", "lean", "table1", "table2", "table3", "table4", "widths", "stages", "beyond"}


def test_every_item_has_a_study_at_three_sizes():
    """The paper's tables and figures that training decides, its two appendices, and what goes beyond."""
    assert {path.stem for path in STUDIES} == {*NAMES, "demo"}  # which has one size, minutes on two cores
    for path in STUDIES:
        if path.stem == "demo":
            continue
        assert {"digits", "cifar16", "paper"} <= set(tomllib.loads(path.read_text())["sizes"])


@pytest.mark.usefixtures("_cut")
@pytest.mark.parametrize(("path", "size"), SIZES, ids=lambda value: getattr(value, "stem", value))
def test_every_size_is_planned(path, size, monkeypatch):
    """Every arm is a good recipe, has a price, and learns as the others do but for what is asked about."""
    if size.startswith("paper"):  # networks that are counted for seconds each; other tests count those of the recipes
        cheap = results.Price(
            iterations=1,
            batch_size=1,
            flops=1.0,
            macs_per_call=1.0,
            paper_macs=1.0,
            parameters=1,
            flops_per_image=(1.0,),
            autoencoder_flops_per_image=0.0,
            hours=None,
            memory=None,
        )
        monkeypatch.setattr(planning, "_price", lambda recipe, **_: cheap)
    study = load_study(path, size)
    whole = plan(study)
    assert len(whole.kept) == len(study.arms) >= 2
    assert all(each.price.flops > 0 and each.price.paper_macs > 0 for each in whole.variants)
    if (path.stem, size) != ("table1", "paper"):  # rows as published
        assert len({each.recipe.training.lr for each in whole.variants}) == 1
        assert len({each.recipe.data for each in whole.variants}) == 1
        laws = {(each.recipe.weighting, each.recipe.training.noise) for each in whole.variants}
        assert len(laws) == 1 or study.study.metrics[0] == "common-loss"
    if study.study.equal == "flops" and not size.startswith("paper"):
        first = whole.variants[0].price
        for each in whole.variants:
            look = each.price.flops / each.price.iterations * study.study.checkpoints
            assert each.price.flops == pytest.approx(first.flops, abs=0.51 * look)


@pytest.mark.usefixtures("_cut")
@pytest.mark.parametrize("path", STUDIES, ids=lambda path: path.stem)
def test_every_study_can_be_tuned_by_one_line(path, monkeypatch):
    """`--over training.lr=[..] --best-of training.lr`: every arm, the baseline too, has the grid; one of it counts."""
    cheap = plan(load_study("recipes/studies/fig1d.toml")).variants[0].price
    monkeypatch.setattr(planning, "_price", lambda recipe, **_: cheap)
    own = load_study(path)
    study = load_study(path, over=["training.lr=[1e-4, 1e-3, 1e-2]"], best_of=["training.lr"])
    whole = plan(study)
    assert len({each.tuned for each in whole.variants}) == len(plan(own).variants)
    for name in {each.tuned for each in whole.variants}:
        tried = [each.recipe.training.lr for each in whole.variants if each.tuned == name]
        assert tried == [1e-4, 1e-3, 1e-2]


def test_the_paper_numbers_are_those_of_table_2():
    """What stands beside what is found is what our own counts give, to the digits that the paper prints."""
    study = load_study("recipes/studies/fig1d.toml", "paper")
    for name, arm in study.arms.items():
        recipe = msdk.load_recipe(arm.recipe)
        assert recipe.training.iterations == arm.paper["iterations"]
        found = msdk.budget(recipe, convention="paper").training.paper_pflops
        assert found == pytest.approx(arm.paper["PFLOPs"], abs=0.006), name
