"""What a recipe leaves to its schedule: the grid of its sampler and the law of its training times suit it."""

import attrs
import pytest

import msdk
from msdk import noise_levels, samplers, schedules
from msdk.budgeting.shares import stage_shares
from msdk.recipe import Recipe, load_recipe, structure, to_data
from msdk.recipe.differences import compare
from msdk.samplers.tracing import explain
from msdk.schedules.shifted import Shifted
from recipes import tiny

Uniform, LogNormal = noise_levels.get("uniform"), noise_levels.get("edm")

LEFT = [name for name in samplers.names() if getattr(samplers.get(name)(), "grid", "") is None]
"""Samplers that leave their grid to the schedule."""


def plain(schedule="vp-linear", edges=(2.5103, 7.6577), **keys) -> Recipe:
    """The tiny recipe without a law of training times and a grid, at the edges of EDM's multistage nets."""
    data = to_data(tiny("sampling.steps=18", "training.noise.std=1.0"))
    del data["training"]["noise"]
    schedule = {"name": schedule} if isinstance(schedule, str) else schedule
    changes = {"schedule": schedule, "stages": {"edges_ratio": list(edges)}, "sampler": {"name": "dpmpp-2m"}}
    for key, value in {**changes, **keys}.items():
        data[key] = {**data[key], **value} if key == "training" else value
    return structure(data, "plain")


def test_a_schedule_of_noise_levels_reaches_every_stage():
    """Under `edm`, where t is sigma, all stages are called and trained: even times called the lowest never."""
    recipe = plain("edm")
    shares = stage_shares(recipe, explain(recipe.partition(), recipe.schedule, recipe.solver, recipe.steps))
    assert recipe.training.noise == LogNormal(mean=-1.2, std=1.2)
    assert min(shares["sampling"]) >= 2 / 18
    assert min(shares["training"]) > 0.003
    assert shares["training"][0] > 0.9
    even = attrs.evolve(recipe, sampler=attrs.evolve(recipe.sampler, grid="uniform-t"))
    even = stage_shares(even, explain(even.partition(), even.schedule, even.solver, even.steps))
    assert even["sampling"][0] == 0


@pytest.mark.parametrize("name", LEFT)
def test_samplers_take_the_grid_of_the_schedule(name):
    """Named or not, in a recipe or on its own, a sampler walks the same times."""
    edm, vp = schedules.get("edm")(), schedules.get("vp-linear")()
    sampler, steps = samplers.get(name)(), 6
    assert sampler.times(edm, steps) == attrs.evolve(sampler, grid="rho").times(edm, steps)
    assert sampler.times(vp, steps) == attrs.evolve(sampler, grid="uniform-t").times(vp, steps)
    assert sampler.on(edm) == attrs.evolve(sampler, grid="rho")


def test_the_usual_defaults_are_what_they_were():
    """Where t is no noise level, and for schedules of plugins that state nothing, times are even as before."""
    for recipe in (plain(), plain("ve", (0.3, 2.5))):
        assert recipe.training.noise == Uniform()
        assert recipe.sampler == samplers.get("dpmpp-2m")(grid="uniform-t")


def test_a_shifted_law_is_shifted():
    """A law of log(ratio) moves with the ratio."""
    edm = schedules.get("edm")()
    recipe = plain({"name": "shifted", "factor": 4.0, "schedule": {"name": "edm"}})
    assert recipe.training.noise.mean == pytest.approx(-1.2 + 1.3862943611)
    assert recipe.sampler.grid == "rho"
    assert Shifted(schedule=edm).trainable


def test_what_is_left_is_written_out_and_told_as_a_default():
    """A recipe that names what it would have had anyway is the same recipe."""
    left = plain("edm")
    named = plain("edm", sampler={"name": "dpmpp-2m", "grid": "rho"}, training={"noise": {"name": "edm"}})
    assert left == named
    other = {each.path: each for each in compare(left, plain())}
    assert (other["sampler.grid"].a, other["sampler.grid"].a_default) == ("rho", True)
    assert (other["training.noise.name"].b, other["training.noise.name"].b_default) == ("uniform", True)
    own = {each.path: each for each in compare(plain(), plain(sampler={"name": "dpmpp-2m", "grid": "rho"}))}
    assert not own["sampler.grid"].b_default


def test_a_shipped_recipe_sampled_by_name_takes_a_grid_that_suits():
    """`msdk sample --sampler ddim` of an EDM run makes calls in all stages."""
    from msdk.sampling import overridden

    recipe = overridden(load_recipe("recipes/cifar10/edm-multistage.toml"), sampler="ddim")
    calls = explain(recipe.partition(), recipe.schedule, recipe.solver, recipe.steps)
    assert {call.stage for call in calls} == {0, 1, 2}
    assert msdk.samplers.get("ddim")().grid is None
