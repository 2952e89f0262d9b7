"""Promises of the price of training: one number in every output, for any recipe, and targets that are kept."""

import json
import math

import attrs
import pytest
import torch
from commands import quick
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch.utils.flop_counter import FlopCounterMode

import msdk
from msdk.budgeting.backward import RULES, stage_flops
from msdk.budgeting.ledger import ledger
from msdk.budgeting.memory import memory
from msdk.budgeting.questions import Question, target_of
from msdk.budgeting.solving import solve
from msdk.budgeting.training_price import held
from msdk.denoiser.building import build
from msdk.encoders.score_sde import DDPMpp
from msdk.objectives.base import Objective
from msdk.objectives.denoising import Denoising
from msdk.recipe import BudgetOptions
from msdk.recipe.fields import Sampling
from msdk.recipe.quantities import significant, written
from msdk.report import budget_grids, solutions_grid
from msdk.report.page import budgets_page
from recipes import AUTOENCODER, tiny

TWO = (
    "stages.edges_ratio=[1.0]",
    'decoders=[{name="ddpmpp", channels=8, groups=4}, {name="ddpmpp", channels=8, groups=4}]',
    "encoder.groups=4",
    "encoder.channel_mult=[1]",  # the fewest operators that have everything which is priced
    "encoder.attention=[8]",
    "training.batch_size=8",
)


@attrs.frozen(kw_only=True)
class HalfFrozen(DDPMpp):
    """An encoder whose convolutions are frozen."""

    def build(self, shape):
        network = super().build(shape)
        for module in network.modules():
            if isinstance(module, torch.nn.Conv2d):
                module.requires_grad_(False)
        return network


def frozen(recipe):
    """The recipe with most of its encoder frozen."""
    fields = attrs.fields_dict(type(recipe.encoder))
    return attrs.evolve(recipe, encoder=HalfFrozen(**{name: getattr(recipe.encoder, name) for name in fields}))


def priced(recompute, ema, accumulation, iterations, sharing, optimizer, latent, still):
    """A small recipe with all that training is priced by."""
    recipe = tiny(
        *TWO,
        f"training.recompute={json.dumps(recompute)}",
        f"training.ema_decay={ema}",
        f"training.accumulation={accumulation}",
        f"training.iterations={iterations}",
        f"sharing={sharing}",
        *([f"training.optimizer={optimizer}"] if optimizer else []),
        *([f"autoencoder={AUTOENCODER}}}", "encoder.attention=[4]"] if latent else []),
    )
    return frozen(recipe) if still else recipe


recipes = st.builds(
    priced,
    recompute=st.booleans(),
    ema=st.sampled_from([0, 0.99]),
    accumulation=st.sampled_from([1, 2]),
    iterations=st.integers(1, 1000),
    sharing=st.sampled_from(["shared", "separate"]),
    optimizer=st.sampled_from(["", "sgd", "adamw"]),
    latent=st.booleans(),
    still=st.booleans(),
)
"""Small recipes that differ in everything that training is priced by."""


FIGURES = {
    "training-flops": ("flops", lambda found: found.training.total_flops),
    "params": ("params", lambda found: found.params),
    "macs": ("macs", lambda found: found.equivalent_macs("sampling")),
}
"""What is solved for -> the key of `[budget]` that limits it, and the figure."""


@settings(derandomize=True, deadline=None, max_examples=6, suppress_health_check=list(HealthCheck))
@given(recipes, st.sampled_from(["training-flops", "training-flops", "params", "macs"]), st.sampled_from([1.0, 1.3]))
def test_what_solve_finds_passes_the_check(recipe, what, factor):
    """At most a budget's own figure, or more: the best answer, counted anew, keeps to it, and has the value told."""
    key, figure = FIGURES[what]
    target = factor * figure(msdk.budget(recipe))
    best = solve(recipe, Question(target=target, what=what, at_most=True, largest=24, smallest=8)).candidates[0]
    found = msdk.budget(attrs.evolve(best.recipe, budget=BudgetOptions(**{key: target})))
    (limit,) = found.limits
    assert not limit.exceeded
    assert limit.found == best.value
    if factor == 1:
        assert best.value == pytest.approx(target, rel=1e-12)  # the recipe itself was among the answers
    assert best.params == found.params
    assert dict(best.equivalent) == found.means
    assert best.macs == tuple(stage.macs for stage in found.stages)


@pytest.mark.parametrize(
    "settings",
    [
        (True, 0, 1, 7, "shared", "", False, False),
        (False, 0.99, 2, 900, "separate", "", True, True),
        (True, 0.99, 2, 1, "shared", "adamw", False, True),
    ],
    ids=str,
)
def test_a_figure_is_the_same_in_every_output(settings):
    """Budget, memory, ledger, solution, tables and page agree with one another and with the networks themselves."""
    recipe = priced(*settings)
    found = attrs.evolve(msdk.budget(recipe), memory=memory(recipe))
    network = build(recipe, "meta").network
    weights = list(network.parameters())
    trained = [each for each in weights if each.requires_grad]
    data = found.as_json()
    params, bytes_ = data["params"], data["memory"]["bytes"]
    assert params["trained"] == sum(each.numel() for each in trained)
    assert bytes_["params"] == 4 * sum(each.numel() for each in weights)
    assert bytes_["gradients"] == 4 * params["trained"]
    assert bytes_["ema"] == 4 * params["ema"]
    assert bool(params["ema"]) == recipe.training.averaged
    assert bytes_["optimizer"] == 4 * params["optimizer"] + 4 * len(trained)

    flops = stage_flops(recipe, build(recipe, "meta").train())
    for price, stage, counted in zip(found.image_flops, found.stages, flops, strict=True):
        assert price.forward == counted.forward == 2 * stage.macs
        assert price.recompute == counted.recompute
        assert price.backward == pytest.approx(counted.backward, rel=0.02)
        if params["trained"] < bytes_["params"] / 4:
            assert price.backward == counted.backward

    training = data["training"]
    whole = ledger(found, [0, 0], recipe.training.iterations, recipe).as_json()["predicted"]
    for key in ("forward", "backward", "recompute"):
        of_stages = [stage[f"{key}_flops"] for stage in training["stages"]]
        assert whole[f"{key}_flops_by_stage"] == of_stages
        assert training[f"{key}_flops"] == math.fsum(of_stages)
    assert whole["total_flops"] == pytest.approx(training["total_flops"], rel=1e-12)
    assert training["total_flops"] == sum(training[f"{key}_flops"] for key in ("forward", "backward", "recompute"))

    size = sum(each.numel() for each in weights)
    frozen_params = found.params - size
    kept = 4 * held(recipe.training, size, params["trained"], autoencoder=frozen_params).total
    answer = solve(recipe, Question(target=kept, what="memory", largest=8, smallest=8)).candidates[0]
    assert answer.value == kept
    assert kept == sum(bytes_.values()) - 4 * len(trained)  # all but the counters of steps

    table = "\n".join(note for grid in budget_grids([found]) for note in grid.notes)
    page = budgets_page([found])
    for key in ("forward_flops", "backward_flops"):
        assert written(training[key], "FLOPs") in table
        assert str(training[key]) in page
    assert ("averaged (EMA)" in table) == bool(params["ema"])


def test_solve_counts_what_is_recomputed(tmp_path, capsys, monkeypatch):
    """A recipe that recomputes is solved for with that, so what --at-most writes passes --check."""
    recipe = tiny(*TWO, "training.recompute=true")
    path, out = tmp_path / "r.toml", tmp_path / "out.toml"
    path.write_text(msdk.recipe.to_toml(recipe))
    target = written(1.2 * msdk.budget(recipe).training.total_flops, "FLOPs").replace(" ", "").removesuffix("FLOPs")
    arguments = ["--what", "training-flops", "--target", target, "--at-most", "--max", 16, "--out", out, "--json"]
    code, printed, err = quick(capsys, monkeypatch, "budget", "solve", path, *arguments)
    assert code == 0, err
    code, counted, err = quick(
        capsys, monkeypatch, "budget", out, "--check", "--json", "--set", f"budget.flops={target}"
    )
    assert code == 0, err
    (limit,) = json.loads(counted)[0]["limits"]
    assert limit["found"] == json.loads(printed)["candidates"][0]["value"] <= target_of(target, "training-flops")


def test_frozen_weights_are_not_trained():
    """They have no gradient and no state of the optimiser, and the backward pass is what torch's counter finds."""
    recipe = frozen(tiny(*TWO))
    found, plain = msdk.budget(recipe), msdk.budget(tiny(*TWO))
    trained = sum(each.numel() for each in build(recipe, "meta").network.parameters() if each.requires_grad)
    assert found.trained_params == trained < plain.trained_params == plain.params == found.params
    assert found.optimizer_params == 2 * trained
    backward = [flops.backward for flops in stage_flops(recipe, build(recipe, "meta"))]
    assert [price.backward for price in found.image_flops] == backward
    assert found.training.backward_flops < plain.training.backward_flops == 2 * plain.training.forward_flops
    assert "a backward pass of 1." in found.training.explanation
    assert "a backward pass of twice" in plain.training.explanation


class TwiceLoss(torch.nn.Module):
    """Two forward passes, of which the first may need no gradient, as that of a teacher."""

    def __init__(self, *, teacher):
        super().__init__()
        self.teacher, self.plain = teacher, Denoising().build(None)

    def loss(self, batch, draw, denoiser):
        with torch.set_grad_enabled(not self.teacher):
            first = self.plain.loss(batch, draw, denoiser)
        return first + self.plain.loss(batch, draw, denoiser)


@attrs.frozen(kw_only=True)
class Twice(Objective):
    """An objective of two passes."""

    calls = 2
    teacher: bool = False

    def build(self, denoiser):
        return TwiceLoss(teacher=self.teacher)


@pytest.mark.parametrize("recompute", [False, True])
@pytest.mark.parametrize("of", [lambda recipe: recipe, frozen], ids=["trained", "frozen"])
def test_passes_of_an_objective_are_priced(of, recompute):
    """Two passes cost twice the forward, backward and recomputed FLOPs of one; a teacher's have no backward pass."""
    one = of(tiny(*TWO, f"training.recompute={json.dumps(recompute)}"))
    two, taught = (
        attrs.evolve(one, training=attrs.evolve(one.training, objective=Twice(teacher=teacher)))
        for teacher in (False, True)
    )
    plain, found, with_teacher = (msdk.budget(each).image_flops for each in (one, two, taught))
    backward = [flops.backward for flops in stage_flops(one, build(one, "meta").train())]
    for price, once, double, teacher in zip(plain, backward, found, with_teacher, strict=True):
        assert double.forward == teacher.forward == 2 * price.forward
        assert double.backward == 2 * once
        assert double.recompute == 2 * price.recompute
        assert teacher.backward == once
        assert teacher.recompute == price.recompute
    budget, before = msdk.budget(two), msdk.budget(one)
    assert budget.training.forward_macs == 2 * before.training.forward_macs
    assert budget.equivalent_macs("training") == before.equivalent_macs("training")
    spent = ledger(budget, [3, 5], 1, two)
    assert spent.forward_macs == 2 * ledger(before, [3, 5], 1, one).forward_macs
    assert spent.predicted.forward_macs == 2 * ledger(before, [3, 5], 1, one).predicted.forward_macs


def test_no_average_has_no_figure():
    """`ema_decay = 0` keeps none: 0 numbers and 0 bytes, in every output."""
    recipe = tiny(*TWO, "training.ema_decay=0")
    found = attrs.evolve(msdk.budget(recipe), memory=memory(recipe))
    assert not recipe.training.averaged
    assert found.parameters.ema == found.memory.held.ema == 0
    assert "averaged" not in "".join(note for grid in budget_grids([found]) for note in grid.notes)
    assert tiny(*TWO, "training.ema_decay=0", "training.ema_half_life=1000").training.averaged


def test_steps_per_stage_are_no_default():
    """The note on default steps stands where nobody said how many, and only there."""
    told = msdk.budget(tiny("sampling={steps_per_stage=[2, 2, 2]}")).notes
    assert not any("steps of sampling are the default" in note for note in told)
    plain = msdk.budget(attrs.evolve(tiny(), sampling=Sampling()))
    assert any("steps of sampling are the default" in note for note in plain.notes)


def test_an_answer_has_its_unit():
    """24 GiB is 24 GiB wherever solve tells it, and in the heads of its table."""
    recipe = tiny(*TWO)
    found = solve(recipe, Question(target=3 * 2**20, what="memory", largest=16, tolerance=9.0))
    grid = solutions_grid(found)
    assert "for 3 MiB" in grid.title
    assert "MiB" in grid.head
    assert grid.rows[0][grid.head.index("MiB")] == significant(found.candidates[0].value / 2**20)


def test_an_old_cache_is_counted_again(monkeypatch, tmp_path):
    """What was kept without a figure that is needed now is no error, and not believed."""
    monkeypatch.setenv("MSDK_CACHE", str(tmp_path))
    before = msdk.budget(tiny(*TWO)).as_json()
    lacking = 0
    for file in tmp_path.rglob("*.json"):
        kept = json.loads(file.read_text())
        if isinstance(kept["value"], dict) and kept["value"].pop("trained", None) is not None:
            del kept["sha256"]
            file.write_text(json.dumps(kept))
            lacking += 1
    assert msdk.budget(tiny(*TWO)).as_json() == before
    assert lacking


def test_attention_is_counted_by_its_own_axes():
    """Two products a head, forward; four, backward: of 3 heads, 5 queries, 7 keys and 4 channels."""
    query, key, value = (torch.rand(2, 3, length, 4, requires_grad=True) for length in (5, 7, 7))
    product = 2 * 2 * 3 * 5 * 7 * 4
    with FlopCounterMode(display=False, custom_mapping=RULES) as forward:
        out = torch.nn.functional.scaled_dot_product_attention(query, key, value)
    with FlopCounterMode(display=False, custom_mapping=RULES) as backward:
        out.sum().backward()
    assert (forward.get_total_flops(), backward.get_total_flops()) == (2 * product, 4 * product)
