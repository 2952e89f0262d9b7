"""Promises of tables of budgets: one unit for a kind of figure, four digits, and what is compared is told."""

import re

import attrs
import pytest

import msdk
from msdk.budgeting.cards import card_named
from msdk.budgeting.planning import estimate
from msdk.report import budget_grids, comparison_grid
from msdk.report.budgets import accounts_apart, parts_grid
from recipes import tiny


def column(grid, name):
    return [row[grid.head.index(name)] for row in grid.rows]


@pytest.fixture(scope="module")
def longer():
    """The tiny recipe with twice the batch and thrice the iterations, under the paper's convention."""
    return msdk.budget(
        tiny("training.batch_size=16", "training.iterations=12"), convention="paper", name="recipes/digits/longer.toml"
    )


def test_batches_and_images_stand_beside_what_they_cost(budgets, longer):
    """A recipe that trains on other images says how many of them, and in which batches."""
    short = budgets[0]
    grid = comparison_grid([short, longer])
    assert column(grid, "batch") == ["8", "16"]
    assert column(grid, "images M") == ["0.00003200", "0.0001920"]
    sentence = accounts_apart(longer, short)
    assert sentence in grid.notes
    assert (
        "with 600 % of the images: 0.0001920 M (12 iterations of 16) against 0.00003200 M (4 iterations of 8)"
        in sentence
    )
    image, whole = (int(number) for number in re.search(r"costs (\d+) %.* of training (\d+) %", sentence).groups())
    assert whole == pytest.approx(6 * image, abs=4)
    alike = accounts_apart(budgets[1], short)
    assert alike.endswith("%.")
    assert "of the images" not in alike


def test_real_figures_are_exact_in_every_convention(longer):
    """Attention, which the paper's tool did not see, is trained all the same: only the paper's figure leaves it out."""
    exact = msdk.budget(tiny("training.batch_size=16", "training.iterations=12"))
    assert longer.means["training"] < exact.means["training"]
    assert longer.training.paper_pflops < exact.training.paper_pflops
    for name in ("forward_macs", "forward_flops", "backward_flops", "total_flops", "stages"):
        assert getattr(longer.training, name) == getattr(exact.training, name)
    assert longer.image_flops == exact.image_flops


def test_macs_are_called_macs_and_have_one_prefix(budgets):
    """The paper's account is in MACs; figures of MACs beside each other have one prefix in a table and its notes."""
    small, large = budgets
    assert [name for name in comparison_grid(budgets).head if "paper" in name] == ["MMACs, paper"]
    assert [name for name in comparison_grid(budgets).head if "train" in name] == ["MMACs/train image", "MFLOPs, train"]
    for grid in budget_grids([small, attrs.evolve(large, memory=None, timing=None)]):
        told = " ".join([*grid.head, *grid.notes])
        assert len(set(re.findall(r"\b([kMGTP]?)MACs", told)) - {""}) <= 1, told


def test_cells_have_four_digits(budgets):
    """No figure of a table is cut to three digits, and none has an exponent."""
    for grid in budget_grids(budgets):
        for row in grid.rows:
            for cell in row[1:]:
                assert not re.search(r"\de[+-]?\d", cell), cell
                for number in re.findall(r"(?<![\d.])(\d+\.\d+)(?! %|\d| \.\.)", cell):
                    digits = number.replace(".", "").lstrip("0")
                    assert len(digits) == 4 or ".." in cell, cell


def test_plans_are_columns_and_a_table(budgets):
    """Planned hours and money, with the card in words; a peak that does not fit is told."""
    card = card_named("a100")
    plans = [attrs.evolve(one, estimate=estimate(one, card, "bf16", price=2.0)) for one in budgets]
    grid = comparison_grid(plans)
    assert grid.head[-2:] == ("hours, planned", "cost, planned")
    assert any("on NVIDIA A100 80GB at 35.0 % of 312.0 TFLOP/s (bf16)" in note for note in grid.notes)
    of_card = [grid for grid in budget_grids(plans) if "training on a100-80" in grid.title]
    assert len(of_card) == 2
    assert of_card[0].head[-1] == "cost at 2 an hour"
    assert "is within the card's 80 GiB" in of_card[1].notes[-1]
    small = attrs.evolve(plans[1], estimate=attrs.evolve(plans[1].estimate, memory=2**20))
    assert any("is MORE THAN the card's 1 MiB" in note for grid in budget_grids([small]) for note in grid.notes)


def test_parts_share_the_cost_of_a_sample():
    """Each part's calls times its MACs over all of them: the shares of encoder and decoders add up to one."""
    budget = msdk.budget(tiny("sampling.steps=9"))
    grid = parts_grid(budget)
    whole = sum(stage.calls * stage.costs.total for stage in budget.stages)
    wanted = [budget.nfe * budget.stages[0].costs.encoder / whole]
    wanted += [stage.calls * stage.costs.decoder / whole for stage in budget.stages]
    told = [each for each in column(grid, "of sampling") if each != "-"]
    assert [float(each.removesuffix(" %")) for each in told] == pytest.approx(
        [100 * share for share in wanted], abs=0.06
    )
    assert sum(wanted) == pytest.approx(1, rel=1e-12)
