"""Promises of `msdk budget solve`: the best of all combinations, exact figures, and a recipe that keeps them."""

import itertools
import json
import math
import sys
import tomllib

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import msdk
from msdk.budgeting.limits import allowed
from msdk.budgeting.pricing import Pricing
from msdk.budgeting.profiling import profile_of
from msdk.budgeting.questions import Profile, Question, amount, ratio_of, target_of
from msdk.budgeting.shares import stage_shares
from msdk.budgeting.solving import solve
from msdk.budgeting.widths import along, grid, width_field
from msdk.cli import main
from msdk.decoders.base import Decoder
from msdk.errors import MsdkError, TargetError
from msdk.recipe import BudgetOptions
from msdk.recipe.quantities import significant
from msdk.samplers.tracing import explain
from recipes import AUTOENCODER, tiny

SMALL = ("encoder.groups=4", *(f"decoders.{k}.groups=4" for k in range(3)))
"""Overrides of the tiny recipe after which its decoders may have any multiple of 8 as their width."""

WIDTHS = (8, 16, 24)
LIMITS = {"smallest": 8, "largest": 24}


def with_widths(recipe, widths):
    decoders = [attrs.evolve(each, channels=width) for each, width in zip(recipe.decoders, widths, strict=True)]
    return attrs.evolve(recipe, decoders=tuple(decoders))


@pytest.fixture(scope="module")
def small():
    return tiny(*SMALL, "sampling.steps=9", "training.stage_draw=uniform")


@pytest.fixture(scope="module")
def every(small):
    """The budget of every combination of three widths, by `msdk.budget` alone."""
    return {widths: msdk.budget(with_widths(small, widths)) for widths in itertools.product(WIDTHS, repeat=3)}


MEASURES = {
    "macs": lambda found, weights: found.equivalent_macs(weights),
    "params": lambda found, _: found.params,
    "training-flops": lambda found, _: found.training.total_flops,
    "memory": lambda found, _: 20 * found.params,
}


def off(widths, wanted):
    logs = [math.log(width / want) for width, want in zip(widths, wanted, strict=True)]
    mean = sum(logs) / len(logs)
    return math.expm1(math.sqrt(sum((x - mean) ** 2 for x in logs) / len(logs)))


def ranked(every, question, wanted, key):
    """All combinations that a question allows, in the documented order, from budgets alone."""
    rows = []
    for widths, found in every.items():
        distance = MEASURES[question.what](found, question.weights) / question.target - 1
        if question.max_params is None or found.params <= question.max_params:
            excess, apart = max(abs(distance) - question.tolerance, 0), off(widths, wanted)
            figures = {"excess": excess, "off": apart, "distance": abs(distance), "params": found.params}
            rows.append((tuple(round(figures[name], 9) for name in key), widths, distance))
    return sorted(rows)


@pytest.mark.parametrize(
    "options",
    [
        {"target": 1.2e6},
        {"target": 1.2e6, "tolerance": 0.0},
        {"target": 1.2e6, "tolerance": 0.1, "weights": "training"},
        {"target": 1.2e6, "tolerance": 0.1, "weights": "length", "at_most": True},
        {"target": 1.1e5, "what": "params", "tolerance": 0.05},
        {"target": 1.2e6, "max_params": 1.1e5, "tolerance": 0.2},
        {"target": 2.5e8, "what": "training-flops", "tolerance": 0.1},
        {"target": 2.2e6, "what": "memory", "tolerance": 0.02},
        {"target": 1.2e6, "tolerance": 0.1, "profile": Profile(ratio=(1, 0.5, 0.5), capacity=(1, 0.25, 0.25), how="")},
    ],
)
def test_the_best_of_all(small, every, options):
    """The candidates, their order, and the nearest on both sides are those of counting every combination."""
    question = Question(**options, **LIMITS)
    found = solve(small, question)
    assert found.combinations == len(every)
    wanted = question.profile.ratio if question.profile else [decoder.channels for decoder in small.decoders]
    order = ranked(every, question, wanted, ("excess", "off", "distance", "params"))
    allowed = [row for row in order if row[2] <= 0 or not question.at_most]
    assert [each.decoders for each in found.candidates] == [widths for _, widths, _ in allowed[: question.count]]
    near = ranked(every, question, wanted, ("distance", "off", "params"))
    assert found.below.decoders == next(widths for _, widths, distance in near if distance <= 0)
    assert found.above.decoders == next(widths for _, widths, distance in near if distance > 0)
    for each in (*found.candidates, found.below, found.above):
        budget = every[each.decoders]
        assert each.value == pytest.approx(MEASURES[question.what](budget, question.weights), rel=1e-12)
        assert each.distance == pytest.approx(each.value / question.target - 1)
        assert each.macs == tuple(stage.macs for stage in budget.stages)
        assert each.params == budget.params
        assert each.active == tuple(stage.encoder_params + stage.decoder_params for stage in budget.stages)
        assert each.equivalent == pytest.approx(
            {name: budget.equivalent_macs(name) for name in ("sampling", "training", "length")}
        )


def test_the_weights_are_those_of_the_budget(small, every):
    """Calls of the sampler, guided ones twice, training draws and lengths are shared out as `msdk budget` does."""
    guided = tiny("encoder.classes=10", "sampling.guidance=2", "sampling.guidance_interval=[0.3, 2.5]")
    for recipe, budget in ((small, every[WIDTHS]), (guided, msdk.budget(guided))):
        trace = explain(recipe.partition(), recipe.schedule, recipe.sampler, recipe.steps, recipe.guidance)
        shares = stage_shares(recipe, trace)
        for name, values in shares.items():
            assert values == pytest.approx([stage.weights[name] for stage in budget.stages])


@pytest.mark.slow
@pytest.mark.parametrize("name", ["dpm-multistage", "separate-tp"])
def test_the_papers_widths(name):
    """18.65 GMACs in the paper's convention are decoders of 192, 128 and 16, to 0.02 %, from 14 counts (Table 2)."""
    recipe = msdk.load_recipe(f"recipes/cifar10/{name}.toml")
    found = solve(recipe, Question(target=18.65e9, convention="paper"))
    best = found.candidates[0]
    assert best.decoders == (192, 128, 16)
    assert best.macs == (29_945_299_968, 17_647_201_280, 6_310_167_040)
    assert abs(best.distance) < 0.0002
    assert best.recipe == recipe
    assert found.counted < 20


# --- exact prices -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("convention", ["exact", "paper", "fvcore"])
def test_interpolated_prices_are_counts(small, convention):
    """Every width costs what counting it says, also where a block needs no shortcut: 16 channels from 8 + 8."""
    line = [(0, width) for width in range(8, 72, 8)]
    pricing = Pricing(small, convention)
    table = pricing.table(small.decoders[0], line)
    assert pricing.counted < len(line)
    counted = Pricing(small, convention, interpolate=False).table(small.decoders[0], line)
    assert table == counted
    params = [table[0, width].decoder_params for width in range(8, 72, 8)]
    curvature = [low - 2 * middle + high for low, middle, high in zip(params, params[1:], params[2:], strict=False)]
    assert curvature[2:] == [curvature[2]] * 4
    assert curvature[0] != curvature[2]  # 16 is off the curve, so there was something to see


def test_interpolated_prices_of_both_widths(small):
    """Where encoder and decoder vary, one polynomial of both gives the counts."""
    pairs = [(encoder, width) for encoder in range(8, 48, 8) for width in range(8, 48, 8)]
    pricing = Pricing(small, "exact")
    table = pricing.table(small.decoders[0], pairs)
    assert pricing.counted < len(pairs)
    assert table == Pricing(small, "exact", interpolate=False).table(small.decoders[0], pairs)


@attrs.frozen(kw_only=True)
class Jumpy(Decoder):
    """A decoder that repeats a convolution as often as its width says, which no polynomial of degree 2 follows."""

    channels: int = 8

    def check(self, info):
        pass

    def build(self, info, shape):
        return JumpyNet(self.channels, info.levels[0].skips[0], shape[0])


class JumpyNet(nn.Module):
    def __init__(self, width, skip, outputs):
        super().__init__()
        self.times = width // 8
        self.enter, self.repeat = nn.Conv2d(skip, width, 3, padding=1), nn.Conv2d(width, width, 3, padding=1)
        self.leave = nn.Conv2d(width, outputs, 3, padding=1)

    def forward(self, features):
        h = self.enter(features.skips[0])
        for _ in range(self.times):
            h = self.repeat(h)
        return self.leave(h)


def test_a_part_that_no_polynomial_follows_is_counted():
    """A plugin's odd part is counted width by width, and the answer is still the best of all."""
    recipe = attrs.evolve(tiny(*SMALL), decoders=(Jumpy(), Jumpy(), Jumpy()))
    table = Pricing(recipe, "exact").table(Jumpy(), [(0, width) for width in range(8, 80, 8)])
    assert table == Pricing(recipe, "exact", interpolate=False).table(
        Jumpy(), [(0, width) for width in range(8, 80, 8)]
    )
    budgets = {
        widths: msdk.budget(with_widths(recipe, widths)).equivalent_macs("sampling")
        for widths in itertools.product((8, 16), repeat=3)
    }
    target = budgets[16, 8, 16] * 1.0001
    found = solve(recipe, Question(target=target, largest=16, tolerance=0))
    assert found.candidates[0].decoders == min(budgets, key=lambda widths: abs(budgets[widths] - target))


def test_separate_encoders_and_autoencoders_are_in_the_totals():
    """Parameters are those of `msdk budget`: an encoder for each stage, the autoencoder once and frozen."""
    for overrides in (["sharing=separate"], [f"autoencoder={AUTOENCODER}, scale=2.5}}"], ["adapter.channels=[8, 8]"]):
        recipe = tiny(*SMALL, *overrides)
        total = msdk.budget(recipe).params
        found = solve(recipe, Question(target=total, what="params", largest=12, step=4))
        assert total in {each.params for each in found.candidates}
        same = solve(recipe, Question(target=20 * total, what="memory", largest=12, step=4, tolerance=0.9))
        frozen = msdk.budget(recipe).as_json()["autoencoder"]
        assert {each.value for each in same.candidates if each.params == total} == {
            20 * total - 16 * (frozen["params"] if frozen else 0)
        }


def test_the_encoder_and_all_widths(small):
    """--vary encoder and all answer with what `msdk budget` counts for the very recipe."""
    for vary in ("encoder", "all"):
        found = solve(small, Question(target=2.5e6, vary=vary, smallest=8, largest=24, tolerance=0.5))
        for each in found.candidates[:2]:
            budget = msdk.budget(each.recipe)
            assert each.value == pytest.approx(budget.equivalent_macs("sampling"))
            assert each.params == budget.params
            assert each.encoder == each.recipe.encoder.channels
            assert (each.decoders is None) == (vary == "encoder")


# --- widths -----------------------------------------------------------------------------------------------------------


def nearest(widths, wanted):
    return min(abs(width - wanted) for width in widths)


@settings(derandomize=True, deadline=None, max_examples=100)
@given(
    st.lists(st.sampled_from([1.0, 1.5, 8.0, 12.0]), min_size=1, max_size=3),
    st.floats(0.0, 1.0),
    st.sampled_from([8, 12, 16]),
)
def test_every_rounding_of_a_proportion_is_tried(ratio, place, step):
    """Whatever the scale, the nearest widths are among those of `along`, and no other is."""
    grids = [list(range(step, 20 * step, step))] * len(ratio)
    found = along(ratio, grids)
    low, high = grids[0][0] / max(ratio), grids[0][-1] / max(ratio)
    scale = low + place * (high - low)
    assert any(
        all(
            abs(width - scale * share) <= nearest(widths, scale * share) + 1e-6
            for width, share, widths in zip(each, ratio, grids, strict=True)
        )
        for each in found
    )
    for each in found:
        # some scale rounds to it: the intervals of scale that its widths allow have one in common
        lows = [(width - step / 2) / share if width > step else 0 for width, share in zip(each, ratio, strict=True)]
        highs = [(width + step / 2) / share for width, share in zip(each, ratio, strict=True)]
        assert max(lows) <= min(highs) + 1e-9


def test_a_fixed_proportion(small):
    """--ratio leaves one number to find, and every candidate is that proportion, rounded."""
    found = solve(small, Question(target=3e6, ratio=(3, 2, 1), tolerance=0.9, largest=64))
    assert len(found.candidates) == 5
    for each in found.candidates:
        scale = each.decoders[0] / 3
        assert all(abs(width - share * scale) <= 8 for width, share in zip(each.decoders, (3, 2, 1), strict=True))
    assert "3:2:1" in found.preference


def test_widths_suit_groups_and_heads():
    """U-Nets have the multiples that their groups admit, transformers 8 times their heads, --round what it says."""
    recipe = msdk.load_recipe("recipes/cifar10/dpm-multistage.toml")
    info = recipe.encoder.info(recipe.shape)
    limits = {"smallest": None, "largest": 96}
    unet = grid(recipe.decoders[0], lambda part: part.check(info), "decoders.0", step=None, **limits)
    assert unet == [16, 32, 48, 64, 80, 96]
    assert grid(recipe.decoders[0], lambda part: part.check(info), "decoders.0", step=24, **limits) == [48, 96]
    recipe = msdk.load_recipe("recipes/cifar10/dit-multistage.toml")
    info = recipe.encoder.info(recipe.shape)
    dit = grid(recipe.decoders[2], lambda part: part.check(info), "decoders.2", step=None, **limits)
    assert dit == [32, 64, 96]
    assert width_field(recipe.decoders[2], "decoders.2") == "width"


@attrs.frozen
class Fixed(Decoder):
    """A decoder without a width."""

    def check(self, info):
        pass

    def build(self, info, shape):
        raise NotImplementedError


def test_parts_without_widths_say_so(small):
    """A part with no width, or none that fits the limits, is an error that names it and the remedy."""
    with pytest.raises(
        TargetError, match=r"decoders\.1: a Fixed has no width to vary: none of channels, width, hidden"
    ):
        solve(attrs.evolve(small, decoders=(small.decoders[0], Fixed(), small.decoders[2])), Question(target=1e6))
    with pytest.raises(TargetError, match=r"decoders\.0: no multiple of 8 from 30 to 31 .*: change --min, --max or"):
        solve(small, Question(target=1e6, smallest=30, largest=31))
    recipe = msdk.load_recipe("recipes/cifar10/dpm-multistage.toml")
    with pytest.raises(
        TargetError, match=r"decoders\.0: no multiple of 8 from 8 to 8 .*cannot be split into 16 groups"
    ):
        solve(recipe, Question(target=1e9, largest=8))


# --- targets ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "what", "value"),
    [
        ("18.65", "macs", 18.65e9),
        ("18.65G", "macs", 18.65e9),
        ("18.65 GMACs", "macs", 18.65e9),
        ("750M", "macs", 750e6),
        ("200M", "params", 200e6),
        ("1_000 params", "params", 1000),
        ("3.4 EFLOPs", "training-flops", 3.4e18),
        ("24GiB", "memory", 24 * 2**30),
        ("24 GB", "memory", 24e9),
        ("110_000_000", "params", 110e6),
        ("15000000000", "macs", 15e9),
    ],
)
def test_targets_are_read(text, what, value):
    """A bare number of MACs is in G, as in the paper's tables; all else has its unit, or is large enough to count."""
    assert target_of(text, what) == pytest.approx(value)


@given(st.one_of(st.floats(1e-3, 1e12), st.integers(1, 10**12)))
def test_a_bare_number_is_one_number(bare):
    """`--target 15` and `[budget] macs = 15` are the same MACs, whatever the number."""
    assert allowed(BudgetOptions(macs=bare)) == {"macs": target_of(str(bare), "macs")}


def test_training_flops_are_exact_in_every_convention():
    """What is solved for is what training costs; the convention counts the stages beside it."""
    recipe, limits = tiny("budget.convention=paper"), {"smallest": 8, "largest": 12, "count": 2}
    exact, paper = (
        solve(recipe, Question(target=1e9, what="training-flops", tolerance=10, convention=how, **limits))
        for how in ("exact", "paper")
    )
    assert [each.value for each in exact.candidates] == [each.value for each in paper.candidates]
    assert exact.candidates[0].macs > paper.candidates[0].macs
    found = msdk.budget(paper.candidates[0].recipe, convention="paper")
    assert found.training.total_flops == paper.candidates[0].value


@pytest.mark.parametrize(
    ("text", "what", "words"),
    [
        ("18.65 GFLOPs", "macs", "is an amount of FLOPs, but MACs are meant here"),
        ("200", "params", "'200' has no unit, and several could be meant: write params, as in 200M"),
        ("24", "memory", "has no unit"),
        ("18.65 Gx", "macs", "is no amount"),
        ("-3", "macs", "is no amount"),
        ("0G", "macs", "must be above 0"),
        ("24GiB", "params", "is an amount of B, but params are meant here"),
    ],
)
def test_unclear_targets_are_refused(text, what, words):
    """Unknown and ambiguous units are errors that name the allowed ones."""
    with pytest.raises(MsdkError, match=words):
        target_of(text, what)


def test_amounts_have_units():
    """Numbers are written as they are read, and parameters in M."""
    assert amount(18.6465e9, "macs") == "18.65 GMACs"
    assert amount(237_169_337, "params") == "237.2 M parameters"
    assert amount(2.5e9, "params") == "2,500 M parameters"
    assert amount(24 * 2**30, "memory") == "24 GiB"
    assert amount(900, "params") == "900 parameters"


@pytest.mark.parametrize("text", ["12:x", "", "0:1", "1:-2", "inf:1"])
def test_proportions_are_read(text):
    """12:8:1 is a proportion; anything else is told how to write one."""
    assert ratio_of("12:8:1") == (12, 8, 1)
    with pytest.raises(TargetError, match="write one number above 0 for each decoder"):
        ratio_of(text)


def test_questions_that_contradict_themselves():
    """Proportions of widths that do not vary, of two sources, or of other decoders are refused; so are odd numbers."""
    profile = Profile(ratio=(1.0,), capacity=(1.0,), how="")
    with pytest.raises(TargetError, match="a proportion is of the decoders' widths"):
        Question(target=1e9, vary="encoder", ratio=(1, 1, 1))
    with pytest.raises(TargetError, match="both --ratio and --profile"):
        Question(target=1e9, ratio=(1,), profile=profile)
    with pytest.raises(TargetError, match="has 2 numbers, but the recipe has 3 decoders"):
        solve(tiny(), Question(target=1e9, ratio=(2, 1)))
    with pytest.raises(TargetError, match="count must be at least 1, got 0"):
        Question(target=1e9, count=0)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (
            {"target": 1e12},
            r"no widths meet 1 TMACs: the nearest that can be reached is .* with decoders 24 / 24 / 24\.",
        ),
        ({"target": 1e3}, r"the nearest that can be reached is .*, with decoders 8 / 8 / 8\. Widths are 8 to 24 in"),
        ({"target": 1e3, "at_most": True}, "with decoders 8 / 8 / 8.* --at-most leaves out all above the target"),
        ({"target": 1e9, "max_params": 5e4}, "--max-params leaves out all with more than 50,000 parameters"),
        ({"target": 1e9, "max_params": 10}, "no widths meet 1 GMACs. Widths are .* more than 10 parameters"),
        ({"target": 1e12}, r"Widths are 8 to 24 in decoders.0, 8 to 24 in decoders.1, 8 to 24 in decoders.2; --min"),
    ],
)
def test_targets_out_of_reach(small, options, words):
    """What cannot be met gives the nearest that can, and the limits that are in the way."""
    with pytest.raises(TargetError, match=words):
        solve(small, Question(**options, **LIMITS))


def test_too_many_combinations_are_refused(small, monkeypatch):
    """A space that would take minutes is refused before it is searched, with the ways to narrow it."""
    monkeypatch.setattr("msdk.budgeting.solving.LARGEST", 26)
    with pytest.raises(TargetError, match=r"27 combinations .* use a larger --round"):
        solve(small, Question(target=1.2e6, **LIMITS))


@pytest.mark.parametrize("chunk", [1, 7, 26])
def test_chunks_change_nothing(small, monkeypatch, chunk):
    """How many combinations are held at once bounds the memory and nothing else."""
    question = Question(target=1.2e6, tolerance=0.1, count=9, **LIMITS)
    whole = solve(small, question)
    monkeypatch.setattr("msdk.budgeting.solving.CHUNK", chunk)
    assert solve(small, question) == whole


# --- profile ----------------------------------------------------------------------------------------------------------


def artefact(path, **changes):
    curves = {"t": [0.1, 0.2, 0.5, 0.6, 0.9], "error": [0, 0.2, 0.5, 0.7, 1], "signal": [1, 0.8, 0.3, 0.5, 0]}
    strategy = {"name": "optimal-denoiser", "edges_t": [0.4, 0.8], "curves": curves} | changes
    path.write_text(json.dumps({"strategies": [{"name": "snr", "edges_t": [0.3], "curves": {}}, strategy]}))
    return path


def test_a_profile_is_the_root_of_what_each_stage_restores(tmp_path):
    """Widths as the roots of signal / (signal + error), summed over the times of each stage; the largest is 1."""
    found = profile_of(artefact(tmp_path / "c.json"), 3)
    capacity = (0.9, 0.4, 1e-3)
    assert found.capacity == pytest.approx([share / 0.9 for share in capacity])
    assert found.ratio == pytest.approx([math.sqrt(share / 0.9) for share in capacity])
    assert "90 %, 40 %, 0.1 %" in found.how
    assert "t = 0.4 / 0.8" in found.how


def test_a_profile_of_real_data_falls_with_the_noise(tmp_path):
    """On the digits, what `msdk cluster` writes gives the decoder nearest the data the most, the last the least."""
    recipe = msdk.load_recipe("recipes/digits/multistage.toml", ["stages.clustering.draws=400"])
    path = tmp_path / "digits.json"
    path.write_text(json.dumps(msdk.cluster(recipe).as_json()))
    first, second, third = profile_of(path, 3).ratio
    assert first == 1 > second > third > 0


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (None, "cannot be read"),
        ("{", "is no clustering"),
        (
            '{"strategies": [{"name": "snr", "edges_t": [0.3, 0.6], "curves": {"t": []}}]}',
            "has no errors of the optimal",
        ),
        (
            '{"strategies": [{"name": "optimal-denoiser", "edges_t": [0.3, 0.6], "curves": {"t": []}}]}',
            "make it anew by `msdk cluster R --strategy optimal-denoiser`",
        ),
    ],
)
def test_artefacts_that_hold_no_profile(tmp_path, text, words):
    """A missing file, another one, and a clustering without errors say what to do."""
    path = tmp_path / "c.json"
    if text is not None:
        path.write_text(text)
    with pytest.raises(TargetError, match=words):
        profile_of(path, 3)


def test_a_profile_of_other_stages_is_refused(tmp_path):
    """An artefact of three stages says nothing about two decoders."""
    with pytest.raises(TargetError, match="has 3 stages, but the recipe has 2 decoders"):
        profile_of(artefact(tmp_path / "c.json"), 2)


# --- the command ------------------------------------------------------------------------------------------------------


def command(capsys, monkeypatch, *arguments):
    """Runs a command inside this process; returns (exit code, stdout, stderr)."""
    monkeypatch.setattr(sys, "argv", ["msdk", *map(str, arguments)])
    monkeypatch.setenv("COLUMNS", "160")
    with pytest.raises(SystemExit) as stop:
        main()
    out, err = capsys.readouterr()
    return stop.value.code, out, err


@pytest.fixture
def file(small, tmp_path):
    path = tmp_path / "recipes" / "small.toml"
    path.parent.mkdir()
    path.write_text(msdk.recipe.to_toml(small))
    return path


@pytest.mark.parametrize("vary", ["decoders", "encoder", "all"])
@pytest.mark.parametrize(("what", "target"), [("macs", "2.3M"), ("params", "55k")])
def test_the_recipe_written_keeps_the_promise(file, tmp_path, capsys, monkeypatch, vary, what, target):
    """--out extends the original; it loads, `msdk budget` has the figures of the first candidate, all else stays."""
    out = tmp_path / "solved" / "mine.toml"
    arguments = ["--what", what, "--target", target, "--vary", vary, "--max", 24, "--tolerance", 40, "--out", out]
    arguments += ["--convention", "paper"]
    code, printed, err = command(capsys, monkeypatch, "budget", "solve", file, *arguments, "--json")
    assert code == 0, err
    best = json.loads(printed)["candidates"][0]
    _, counted, _ = command(capsys, monkeypatch, "budget", out, "--json")
    (budget,) = json.loads(counted)
    assert budget["convention"] == "paper"
    assert budget["equivalent_macs"] == pytest.approx(best["equivalent_macs"])
    assert budget["params"]["total"] == best["params"]
    assert [stage["macs"]["total"] for stage in budget["stages"]] == [stage["macs"] for stage in best["stages"]]
    solved, original = msdk.load_recipe(out), msdk.load_recipe(file)
    widths = {"encoder": solved.encoder.channels, "decoders": [decoder.channels for decoder in solved.decoders]}
    assert all(widths[part] == found for part, found in best["widths"].items() if found is not None)
    for name in ("data", "schedule", "stages", "training", "sampler", "sampling"):
        assert getattr(solved, name) == getattr(original, name)
    text = out.read_text()
    assert tomllib.loads(text)["extends"] == "../recipes/small.toml"
    assert text.startswith("# Found by `msdk budget solve")
    assert len(max(text.splitlines()[:4], key=len)) <= 120


def test_files_are_not_overwritten(file, capsys, monkeypatch, tmp_path):
    """--out refuses a file that exists, before anything is counted, unless --force replaces it."""
    out = tmp_path / "mine.toml"
    out.write_text("mine")
    arguments = ["budget", "solve", file, "--target", "2.3M", "--max", 24, "--out", out]
    code, _, err = command(capsys, monkeypatch, *arguments)
    assert (code, out.read_text()) == (2, "mine")
    assert "replace it with --force" in err
    assert command(capsys, monkeypatch, *arguments, "--force")[0] == 0
    assert msdk.load_recipe(out).encoder == msdk.load_recipe(file).encoder


def test_the_table(file, capsys, monkeypatch):
    """Widths, value, distance, MACs by stage and parameters of each candidate, both sides, and the preference."""
    arguments = ["budget", "solve", file, "--target", "2.3M", "--max", 24, "--tolerance", 20]
    code, out, _ = command(capsys, monkeypatch, *arguments)
    assert code == 0
    _, printed, _ = command(capsys, monkeypatch, *arguments, "--json")
    solution = json.loads(printed)
    assert len(solution["candidates"]) == 5
    for each in (*solution["candidates"], *solution["nearest"].values()):
        row = next(line for line in out.splitlines() if " / ".join(map(str, each["widths"]["decoders"])) in line)
        assert f" {significant(each['value'] / 1e6)} " in row
        assert f"{100 * each['distance']:+.3f} %" in row
    assert "nearest below" in out
    assert "nearest above" in out
    assert "the recipe's own proportion, 12:8:4" in " ".join(out.split())
    question = solution["question"]
    assert (question["what"], question["unit"], question["weights"]) == ("macs", "MACs", "sampling")
    assert question["target"] == 2.3e6


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("--target 2.3GFLOPs", "1 MAC is 2 FLOPs"),
        ("--target 9P", "the nearest that can be reached is"),
        (
            "--target 5M --what params --weights training",
            "--weights says which mean the MACs are, but --what is params",
        ),
        ("--target 5M --convention papr", "Did you mean 'paper'?"),
        ("--target 5M --ratio 12:8", "has 2 numbers, but the recipe has 3 decoders"),
        ("--target 5M --count 0", "count must be at least 1"),
        ("--target 5M --profile nowhere.json", "nowhere.json cannot be read"),
        ("--target 5M --out x.toml --set training.lr=1e-3", "write those keys into a recipe first"),
        ("--target 5M --what flops", "flops"),
    ],
)
def test_wrong_input_exits_2(file, arguments, words, capsys, monkeypatch):
    """What was given and what is allowed, exit code 2, nothing on stdout."""
    code, out, err = command(capsys, monkeypatch, "budget", "solve", file, *arguments.split())
    assert (code, out) == (2, "")
    assert words in " ".join(err.split())


def test_a_profile_on_the_command_line(file, tmp_path, capsys, monkeypatch):
    """--profile prefers its proportion and says how it was derived."""
    path = artefact(tmp_path / "c.json")
    code, out, err = command(
        capsys, monkeypatch, "budget", "solve", file, "--target", "2.3M", "--max", 24, "--profile", path, "--json"
    )
    assert code == 0, err
    solution = json.loads(out)
    assert "restores 90 %, 40 %, 0.1 % of the data's variance" in solution["preference"]
    assert solution["question"]["profile"]["capacity"][0] == 1
