"""Promises of results as classes: JSON is their cattrs form both ways, and is what it was before.

The files in golden/ were written by the commit before results became classes, from the shipped recipes (the clusters
are three strategies of `msdk cluster --compare`, the ledger that of 12 iterations). Keys that came later have their
defaults in them.
"""

import json
from pathlib import Path

import attrs
import pytest

import msdk
from msdk.budgeting import Budget
from msdk.budgeting.ledger import Ledger, ledger
from msdk.budgeting.memory import memory
from msdk.budgeting.solutions import Solution
from msdk.clustering.clusters import Clusters
from msdk.errors import RunError
from msdk.recipe.results import from_json, parsed, read_several, to_json
from recipes import tiny

GOLDEN = Path(__file__).parent / "golden"
KINDS = {"budget": list[Budget], "memory": list[Budget], "solution": Solution, "ledger": Ledger, "clusters": Clusters}


def text_of(result):
    return json.dumps(to_json(result), indent=2)


def recipe_of(budget):
    """The recipe that a golden budget is of, with the edges that its clustering found."""
    edges = tuple(stage.ratio[1] for stage in budget.stages[:-1])
    return msdk.load_recipe(budget.recipe).with_partition(msdk.Partition(edges))


@pytest.mark.parametrize("path", sorted(GOLDEN.glob("*.json")), ids=lambda path: path.name)
def test_json_is_read_and_written_back(path):
    """Every kind of result: structured and unstructured again it is the same text, in keys, order and digits."""
    text = path.read_text().strip()
    found = from_json(json.loads(text), KINDS[path.name.split(".")[-2]])
    assert text_of(found) == text


@pytest.mark.parametrize("path", sorted(GOLDEN.glob("*.budget.json")), ids=lambda path: path.name)
def test_budgets_are_those_of_before(path):
    """The shipped recipes count to the very same document."""
    (before,) = read_several(path, Budget, "a budget")
    found = msdk.budget(recipe_of(before), convention=before.convention, name=before.recipe)
    assert text_of([found]) == path.read_text().strip()


def test_memory_and_ledger_are_those_of_before():
    """What is simulated, and what a run is told to have spent, too."""
    for before in read_several(GOLDEN / "digits.memory.json", Budget, "a budget"):
        assert text_of(memory(recipe_of(before))) == text_of(before.memory)
    path = GOLDEN / "digits-multistage.ledger.json"
    before = parsed(path.read_bytes(), path, Ledger, "a ledger")
    (budget,) = read_several(GOLDEN / "digits-multistage.budget.json", Budget, "a budget")
    recipe = recipe_of(budget)
    found = ledger(msdk.budget(recipe), before.images_by_stage, before.iteration, recipe)
    assert text_of(found) == text_of(before)


@pytest.mark.slow
def test_solutions_are_those_of_before():
    """The same widths, figures and order for the shipped recipe."""
    from msdk.budgeting.solving import solve

    path = GOLDEN / "cifar10-dpm-multistage.solution.json"
    before = parsed(path.read_bytes(), path, Solution, "a solution")
    found = solve(msdk.load_recipe(before.recipe), before.question, name=before.recipe)
    assert text_of(found) == text_of(before)


def test_a_budget_knows_its_class_again():
    """What JSON has comes back equal; the price of an image, which it does not have, is left out."""
    found = msdk.budget(tiny())
    again = from_json(json.loads(text_of(found)), Budget)
    assert to_json(again) == to_json(found)
    assert (again.parameters, again.stages, again.training) == (found.parameters, found.stages, found.training)
    assert again.image_flops == ()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda data: data.pop("params"), "params is missing"),
        (lambda data: data["params"].update(total="many"), "params.total expected a whole number, got 'many'"),
        (lambda data: data["stages"][1]["macs"].pop("total"), "stages.1.macs.total is missing"),
        (lambda data: data.update(title=3), "title expected text, got 3"),
        (lambda data: data.update(convention="paperr"), "convention expected one of exact, paper, fvcore"),
        (lambda data: data.update(stages={}), "stages expected a list, got {}"),
        (lambda data: data["limits"].append({"key": "params"}), "limits.0.limit is missing"),
        (lambda data: data.update(extra=1), "has an unknown key 'extra'"),
        (
            lambda data: data.update(parameters={}),
            "Known: recipe, title, convention, input_shape, params, autoencoder",
        ),
        (lambda data: data["stages"][0].update(costs={}), "stages.0 has an unknown key 'costs'"),
        (lambda data: data["params"].update(total=-5), "params 'total' must be >= 0: -5"),
        (
            lambda data: data["params"].update(total=5),
            "params.total is 5, but params.encoder, params.other and the decod",
        ),
        (
            lambda data: data["stages"][1]["macs"].update(total=7),
            "stages.1.macs total is 7, but encoder, decoder add up",
        ),
        (lambda data: data["stages"][1]["macs"]["by_operator"].update(conv=1), "the rows of by_operator do not add up"),
        (lambda data: data["equivalent_macs"].update(training=1.0), "equivalent_macs.training is 1.0, but MACs and"),
        (lambda data: data["equivalent_macs"].pop("length"), "the weights of each stage must have 'length'"),
        (lambda data: data["training"].update(total_flops=-1.0), "training total_flops is -1.0, but forward_flops"),
        (lambda data: data["training"]["stages"][0].update(images=-1.0), "'images' must be >= 0: -1.0"),
    ],
)
def test_other_json_is_told(tmp_path, change, words):
    """A damaged or foreign document names the file, the key of JSON, and what is expected there."""
    data = msdk.budget(tiny()).as_json()
    change(data)
    path = tmp_path / "a.json"
    path.write_text(json.dumps(data))
    with pytest.raises(RunError) as caught:
        read_several(path, Budget, "a saved budget")
    assert f"{path} is not a saved budget: " in str(caught.value)
    assert words in str(caught.value)


def test_counts_of_a_training_are_none_or_more():
    """A budget of no iteration sees no image and spends nothing; nothing is negative, and a batch has an image."""
    path = GOLDEN / "digits-multistage.budget.json"
    (budget,) = read_several(path, Budget, "a budget")
    for field in attrs.fields(type(budget.training)):
        if type(getattr(budget.training, field.name)) is int:
            least = int(field.name in ("batch_size", "accumulation", "stage_groups"))
            attrs.evolve(budget.training, **{field.name: least})
            with pytest.raises(ValueError, match=field.name):
                attrs.evolve(budget.training, **{field.name: least - 1})


@pytest.mark.parametrize("dtype", ["fp32", "bf16"])
def test_memory_of_either_precision_is_read_back(dtype):
    """A saved budget may be of any precision that training has."""
    (budget, *_) = read_several(GOLDEN / "digits.memory.json", Budget, "a budget")
    told = attrs.evolve(budget.memory, dtype=dtype)
    assert from_json(to_json(told), type(told)) == told
