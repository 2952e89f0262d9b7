"""Promises of the ledger: what was spent follows from images seen, what was predicted from the recipe alone."""

import json

import attrs
import pytest

import msdk
from msdk.budgeting.backward import stage_flops
from msdk.budgeting.ledger import ledger
from msdk.denoiser.building import build
from recipes import tiny


def test_spent_is_what_was_seen():
    """Forward, backward and total FLOPs by stage are those of the images that each stage saw."""
    recipe = tiny()
    budget = msdk.budget(recipe, convention="exact")
    found = ledger(budget, [70, 50, 8], 16, recipe).as_json()
    macs = [stage.macs for stage in budget.stages]
    forward = [2 * seen * each for seen, each in zip([70, 50, 8], macs, strict=True)]
    assert found["spent"]["forward_flops_by_stage"] == forward
    assert found["spent"]["backward_flops_by_stage"] == [2 * each for each in forward]
    assert found["spent"]["recompute_flops_by_stage"] == [0, 0, 0]
    assert found["total_flops"] == 3 * sum(forward)
    assert found["forward_macs"] == sum(forward) / 2
    assert found["images"] == 128


def test_predicted_is_what_the_recipe_says_of_the_same_iteration():
    """At any iteration: images by the draws of training; over the whole run it is the budget's own prediction."""
    recipe = tiny("training.accumulation=4")
    budget = msdk.budget(recipe, convention="exact")
    for iteration in (1, 3, recipe.training.iterations):
        predicted = ledger(budget, [0, 0, 0], iteration, recipe).as_json()["predicted"]
        assert predicted["images"] == 8 * iteration
        assert (predicted["batch_size"], predicted["accumulation"]) == (8, 4)
        shares = [stage.weights["training"] for stage in budget.stages]
        assert predicted["images_by_stage"] == pytest.approx([8 * iteration * share for share in shares])
    assert predicted["total_flops"] == pytest.approx(budget.training.total_flops)
    of_budget = budget.as_json()["training"]["stages"]
    assert predicted["forward_flops_by_stage"] == pytest.approx([stage["forward_flops"] for stage in of_budget])


def test_recomputation_is_in_the_ledger():
    """What the backward pass computes again is counted for each image, in the ledger and in the budget alike."""
    recipe = tiny("training.recompute=true")
    budget = msdk.budget(recipe, convention="exact")
    again = [flops.recompute for flops in stage_flops(recipe, build(recipe, "meta").train())]
    assert all(0 < flops <= 2 * stage.macs for flops, stage in zip(again, budget.stages, strict=True))
    assert [price.recompute for price in budget.image_flops] == again
    found = ledger(budget, [3, 2, 1], 1, recipe).as_json()
    spent = [seen * flops for seen, flops in zip([3, 2, 1], again, strict=True)]
    assert found["spent"]["recompute_flops_by_stage"] == spent
    forward = found["spent"]["forward_flops_by_stage"]
    assert found["total_flops"] == 3 * sum(forward) + sum(spent)
    whole = ledger(budget, [0, 0, 0], recipe.training.iterations, recipe).as_json()["predicted"]
    assert whole["total_flops"] == pytest.approx(budget.training.total_flops)
    assert budget.training.recompute_flops > 0
    plain = msdk.budget(attrs.evolve(recipe, training=attrs.evolve(recipe.training, recompute=False)))
    assert budget.training.total_flops - budget.training.recompute_flops == pytest.approx(plain.training.total_flops)


def test_a_run_keeps_its_ledger(tmp_path):
    """ledger.json has every documented key, and can be compared with the prediction at the iteration it was written."""
    recipe = tiny("training.accumulation=2")
    msdk.train(recipe, tmp_path / "run")
    found = json.loads((tmp_path / "run" / "ledger.json").read_text())
    assert {
        "iteration",
        "convention",
        "images",
        "images_by_stage",
        "macs_per_image_by_stage",
        "forward_macs_by_stage",
        "forward_macs",
        "total_flops",
        "spent",
        "predicted",
        "relative_difference_by_stage",
        "validation",
        "sampling",
        "stopping",
    } == set(found)
    assert found["validation"] is found["sampling"] is found["stopping"] is None
    assert found["iteration"] == recipe.training.iterations
    assert found["images"] == sum(found["images_by_stage"]) == found["predicted"]["images"]
    for spent, predicted, apart in zip(
        found["spent"]["total_flops_by_stage"],
        found["predicted"]["total_flops_by_stage"],
        found["relative_difference_by_stage"],
        strict=True,
    ):
        assert apart == pytest.approx(spent / predicted - 1)
