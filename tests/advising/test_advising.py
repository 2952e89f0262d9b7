"""Advice: laws are found again, the choice is the best by construction, and a recipe is advised on end to end."""

import itertools
import json
import subprocess
import sys
from pathlib import Path

import attrs
import numpy as np
import pytest
from commands import quick
from hypothesis import given, settings
from hypothesis import strategies as st

import msdk
from msdk.advising import asking, probing
from msdk.advising.choosing import Option, StageOptions, choose, staged_loss
from msdk.advising.fitting import PowerLaw, fit, fit_together
from msdk.advising.probing import floors
from msdk.partition import Partition
from msdk.studies.collecting import collect
from msdk.studies.quality import held_out_losses
from msdk.studies.running import Watcher
from recipes import tiny

UNIFIED = Path("recipes/digits/unified.toml")
MULTISTAGE = Path("recipes/digits/multistage.toml")
WIDTHS = (16, 24, 32, 48, 64)


def law(a, b, c, unit=1.0):
    return PowerLaw(np.array([a]), np.array([b]), np.array([c]), unit)


@given(
    a=st.floats(0.0, 2.0),
    b=st.floats(0.05, 2.0),
    c=st.sampled_from([0.1, 0.3, 0.7, 1.2]),
    unit=st.floats(1e6, 1e18),
)
@settings(max_examples=40, deadline=None)
def test_a_law_is_found_again(a, b, c, unit):
    """Without noise, the law is met at all looks and, between the exponents that are tried, far beyond them nearly."""
    spent = unit * np.linspace(0.25, 1.0, 7)
    found = fit(spent, law(a, b, c, unit)(spent)[None])
    wanted = law(a, b, c, unit)
    assert np.allclose([found(each)[0] for each in spent], [wanted(each)[0] for each in spent], rtol=1e-2)
    assert found(100 * unit)[0] == pytest.approx(wanted(100 * unit)[0], abs=0.08 * b)
    assert found(2 * unit)[0] <= found(unit)[0]


def test_laws_together_have_one_exponent():
    """Curves that are alike where they were seen stay alike; and the sum of stages has the law of the whole."""
    spent = np.linspace(1.0, 4.0, 6)
    random = np.random.default_rng(0)
    stages = [law(0.2, 0.5, 0.4)(spent), law(0.5, 0.1, 0.4)(spent)]
    noisy = [(each + 1e-3 * random.standard_normal(6))[None] for each in (*stages, (stages[0] + stages[1]) / 2)]
    first, second, whole = fit_together([spent] * 3, noisy, [0.0] * 3)
    assert first.c is second.c is whole.c
    assert whole(1e3)[0] == pytest.approx((first(1e3)[0] + second(1e3)[0]) / 2, abs=5e-3)
    alone = fit(spent, noisy[1])
    assert alone.c[0] != first.c[0]


def test_no_law_gets_below_its_floor():
    """Where curves alone say nothing of what is left, the data do."""
    spent = np.linspace(1.0, 4.0, 6)
    falling = (1.5 - 0.1 * spent)[None]
    assert fit(spent, falling)(1e6)[0] < 0.5
    floored = fit(spent, falling, 0.9)
    assert floored.a[0] == 0.9
    assert floored(1e9)[0] >= 0.9


@given(
    wanted=st.tuples(*[st.sampled_from(WIDTHS)] * 3),
    drawn=st.sampled_from([(1 / 3, 1 / 3, 1 / 3), (0.5, 0.3, 0.2), (0.1, 0.2, 0.7)]),
    budget=st.floats(1e12, 1e20),
)
@settings(max_examples=60, deadline=None)
def test_widths_that_are_best_by_construction_are_chosen(wanted, drawn, budget):
    """The loss of a stage has its least at a known width: that one is chosen, or its neighbour in the grid.

    A width costs log2(w / best)^2 of loss, and training costs more the wider it is, which draws the choice to narrower
    widths by less than a step.
    """
    stages = tuple(
        StageOptions(
            share,
            share,
            tuple(
                Option(width, 1e6 * width**2, law(1 + np.log2(width / best) ** 2, 0.3, 0.3, 1e15)) for width in WIDTHS
            ),
        )
        for share, best in zip(drawn, wanted, strict=True)
    )
    # Where the budget is so small that what is left to learn rules, widths are not what the losses differ by.
    found = choose([Option(32, 1e9, law(1.0, 0.3, 0.3, 1e15))], stages, budget * 1e4)
    steps = [abs(WIDTHS.index(width) - WIDTHS.index(best)) for width, best in zip(found.widths, wanted, strict=True)]
    assert max(steps) <= 1


@given(seed=st.integers(0, 2**20))
@settings(max_examples=25, deadline=None)
def test_widths_are_found_from_noisy_probes(seed):
    """Chinchilla-like networks: loss = e + A / w + B / images^0.4, probed with noise; the choice is by a step or exact.

    Probes are a twentieth of the budget, and their laws are fitted as advice fits them, together. What is best is
    computed from the true losses, over the same grid.
    """
    random = np.random.default_rng(seed)
    drawn, budget = random.dirichlet([4, 4, 4]), 1e15
    truth, looks, losses = [], [], []
    for share in drawn:
        need, learn = 10 ** random.uniform(-0.3, 0.7), 10 ** random.uniform(1.3, 2.3)
        own = []
        for width in WIDTHS:
            price = 2e4 * width**2
            curve = law(0.1 + need / width, learn * price**0.4, 0.4)
            spent = budget / 20 * share * np.linspace(0.25, 1, 12)
            looks.append(spent)
            losses.append((curve(spent) * (1 + 3e-4 * random.standard_normal(12)))[None])
            own.append(Option(width, price, curve))
        truth.append(StageOptions(share, share, tuple(own)))
    laws = iter(fit_together(looks, losses, [0.0] * len(looks)))
    probed = [
        StageOptions(
            each.drawn, each.weight, tuple(Option(one.width, one.flops_per_image, next(laws)) for one in each.options)
        )
        for each in truth
    ]
    best = min(
        itertools.product(*(each.options for each in truth)),
        key=lambda chosen: float(staged_loss(truth, chosen, budget)[0]),
    )
    found = choose([truth[0].options[0]], probed, budget)
    pairs = zip(found.widths, (each.width for each in best), strict=True)
    assert max(abs(WIDTHS.index(width) - WIDTHS.index(wanted)) for width, wanted in pairs) <= 1


def test_what_is_saved_is_what_the_laws_say():
    """A stage that learns as the unified network for half the price saves half; one that never gets there, nothing."""
    one = Option(32, 2.0, law(0.1, 1.0, 0.5))
    half = StageOptions(1.0, 1.0, (Option(32, 1.0, law(0.1, 0.5**0.5, 0.5)),))
    found = choose([one], [half], 1e6)
    assert found.ratio[0] == pytest.approx(0.5, rel=1e-6)
    assert (found.unified_images, found.staged_images) == (5e5, 1e6)
    never = StageOptions(1.0, 1.0, (Option(32, 1.0, law(0.2, 0.1, 0.5)),))
    assert choose([one], [never], 1e6).ratio[0] == np.inf


def test_the_floor_is_the_optimal_denoiser():
    """It rises with the noise, and lies below the loss of the mean image, sigma_data^2 times the weight."""
    recipe = tiny("weighting={name='edm', sigma_data=0.75}")
    low, middle, high = floors(recipe)
    assert 0 <= low < middle < high < 1.2


SMALL = (
    *("--iterations", 12, "--widths", "8,12", "--budget", "2G", "--set", "training.batch_size=8"),
    *("--set", "encoder.channels=8", "--set", "training.validate_images=16", "--set", "stages={edges_ratio=[0.3,2.5]}"),
)


def test_a_recipe_is_advised_on(tmp_path, capsys, monkeypatch):
    """Nine probes by two processes, then an answer with its interval; another budget trains nothing."""
    out = tmp_path / "advice"
    words = ("advise", "recipes/digits/multistage.toml", *SMALL, "--out", out)
    command = [sys.executable, "-m", "msdk", *map(str, words), "--json", "--processes", "2"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "9 probes of 12 iterations" in done.stderr
    assert "in another process" in done.stderr
    told = json.loads(done.stdout)
    assert told == json.loads((out / "advice.json").read_text())
    assert told["verdict"] in ("stages", "stay unified")
    most = told["saving"]["high"]
    unsure = told["verdict"] == "stay unified" and most is not None and most > 0
    assert ("Stay unified until more is known" in told["sentence"]) == unsure
    assert (told["edges_ratio"], told["edges_by"]) == ([0.3, 2.5], "the recipe")
    assert [(each["stage"], each["width"]) for each in told["laws"]] == [
        (None, 8),
        *itertools.product(range(3), (8, 12)),
    ]
    assert {each["width"] for each in told["stages"]} <= {8, 12}
    assert len(list((out / "trials").iterdir())) == 9
    made = {path: path.stat().st_mtime_ns for path in (out / "trials").glob("*/ledger.json")}
    ledgers = [json.loads(path.read_text())["total_flops"] for path in made]
    assert told["probed_flops"] == pytest.approx(sum(ledgers))
    code, shown, _ = quick(capsys, monkeypatch, *["4G" if word == "2G" else word for word in words], columns=80)
    assert code == 0
    assert max(map(len, shown.splitlines())) <= 80
    assert "4.000 GFLOPs" in shown
    assert {path: path.stat().st_mtime_ns for path in made} == made


def test_longer_probes_go_on_from_shorter_ones(tmp_path, monkeypatch):
    """Twice the iterations train only the second half, and the looks of the first half are those that were there."""
    monkeypatch.setattr(probing, "EVERY", 1)
    own = [
        "training.batch_size=4",
        "encoder.channels=8",
        "training.validate_images=8",
        "stages={edges_ratio=[0.3,2.5]}",
    ]
    out, began = tmp_path / "advice", []
    watcher = Watcher(began=lambda trial, resumed: began.append(resumed))
    asked = {"widths": [8, 12], "budget": "2G", "overrides": own, "watcher": watcher}
    short = msdk.advise(MULTISTAGE, out, iterations=12, **asked)
    assert began == [False] * 9
    long = msdk.advise(MULTISTAGE, out, iterations=24, **asked)
    assert began == [False] * 9 + [True] * 9
    assert long.probed_flops == pytest.approx(2 * short.probed_flops)
    assert long.beyond == pytest.approx(short.beyond / 2)
    looks = {len(held_out_losses(run)) for run in (out / "trials").iterdir()}
    assert looks == {12, 24}

    # Where losses are such laws from the first look on, nothing is missed; where they bend later, that is seen, and
    # widens the interval of what is saved. What comes before the second half of a probe says nothing of its law.
    asked = probing.Asked(file=MULTISTAGE, widths=[8, 12], budget="2G", overrides=own, iterations=24)
    probes = probing.probes_of(asked)
    found = collect(probes.plan, probes.trials, out, MULTISTAGE)

    def pretended(bend, early=0.0):
        def value(point, stages):
            kept = 0.4 + 0.3 * point.iteration**-0.5 + early * (point.iteration < 13)
            return kept - (bend * max(point.iteration - 12, 0) if stages > 1 else 0)

        def told(point):
            stages = len(point.by_stage)
            return attrs.evolve(point, value=value(point, stages), by_stage=(value(point, stages),) * stages)

        arms = [
            attrs.evolve(arm, trials=[attrs.evolve(each, points=tuple(map(told, each.points))) for each in arm.trials])
            for arm in found.arms
        ]
        return asking.advised(probes, attrs.evolve(found, arms=tuple(arms)), 0.95)

    straight, bent = pretended(0.0), pretended(1e-3)
    assert straight.foresight < 1e-3
    assert bent.foresight == pytest.approx(12e-3, abs=1e-3)
    assert straight.saving.high - straight.saving.low < 0.2
    assert bent.saving.low is None or bent.saving.low < bent.saving.estimate - 0.3
    assert pretended(0.0, early=0.5).laws == straight.laws

    lacking = attrs.evolve(found.arms[1].trials[0], points=found.arms[1].trials[0].points[:5])
    short = attrs.evolve(found.arms[1], trials=(lacking, *found.arms[1].trials[1:]))
    with pytest.raises(msdk.RunError, match="was looked at 5 times, and laws need 12"):
        asking.advised(probes, attrs.evolve(found, arms=(found.arms[0], short, *found.arms[2:])), 0.95)


def test_what_laws_drift_widens_the_interval():
    """A ratio holds what laws err by, the more the further on; its mean stays, and so do the losses that are told."""
    laws = [PowerLaw(*(np.full(3, each) for each in abc), unit=1.0) for abc in ((0.1, 1.0, 0.5), (0.1, 0.7, 0.5))]
    one, half = (Option(32, 1.0, each) for each in laws)
    stages = [StageOptions(1.0, 1.0, (half,))]

    def ratio(budget, drift):
        found = choose([one], stages, budget, np.array([0, drift, -drift]))
        assert found.staged_loss == pytest.approx(staged_loss(stages, [half], budget))
        return found.ratio

    sure, near, far = ratio(1e4, 0.0), ratio(4.0, 1e-3), ratio(1e4, 1e-3)
    assert sure == pytest.approx(0.49, rel=1e-6)
    for each in (near, far):
        assert each[0] == pytest.approx(0.49, rel=1e-6)
        assert each[2] < each[0] < each[1]
    assert near[1] < far[1]
    # The resample reaches the target where its loss, above the law's by a thousandth for each doubling, is there.
    spent, doublings = near[1] * 4.0, 2.0
    assert 0.1 + 0.7 * spent**-0.5 + 1e-3 * doublings == pytest.approx(0.1 + 4.0**-0.5, rel=1e-6)
    # Below the probes' end, laws are asked for what they were not fitted to as well.
    assert np.isfinite(ratio(1 / 16, 1e-3)).all()
    assert ratio(1 / 16, 1e-3)[1] > 0.49


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--widths", "8"), "one width leaves nothing to choose: name two or more, for example 16,32,48"),
        (("--widths", "8,2"), "decoders.0: 2 is no width that it can have: 'channels' must be >= 4"),
        (("--widths", "8,x"), "--widths 8,x: write whole numbers"),
        (("--iterations", "4"), "train them for 12 or more"),
        (("--budget", "2 GMACs"), "MACs"),
        (("--budget", "0"), "a budget of 0 FLOPs is less than the"),
        (("--budget", "1k"), "1.000 kFLOPs is less than the"),
        (("--widths", "0,8"), "--widths 0,8: write whole numbers above 0"),
        (("--seeds", "0-1"), "at least 3"),
        (("--processes", "0"), "--processes 0: at least 1"),
    ],
)
def test_mistakes_are_told(tmp_path, capsys, monkeypatch, words, told):
    """Exit code 2 and a sentence, before anything is trained."""
    out = tmp_path / "advice"
    recipe = ("recipes/digits/multistage.toml", "--set", "stages={edges_ratio=[0.3,2.5]}")
    code, _, err = quick(capsys, monkeypatch, "advise", *recipe, *words, "--out", out)
    assert code == 2
    assert told in " ".join(err.split())
    assert not out.exists()


def test_one_stage_gets_three(tmp_path, monkeypatch):
    """Of a unified recipe, edges are found in its data, and all three stages have its decoder's settings."""

    def found(recipe, **_):
        return recipe.with_partition(Partition((0.3, 2.5))), None

    monkeypatch.setattr(probing, "with_edges", found)
    monkeypatch.setattr(probing, "floors", lambda recipe, **_: (0.0, 0.0, 0.0))
    overrides = ["encoder.channels=8", "data.held_out=0.3"]
    probes = probing.probes_of(probing.Asked(file=UNIFIED, overrides=overrides, widths=[8, 12]))
    assert {each.recipe.data.held_out for each in probes.plan.variants} == {0.3}
    assert probes.edges_by == "optimal-denoiser"
    assert [each.arm for each in probes.plan.variants] == ["unified", "8", "12"]
    assert [len(each.recipe.decoders) for each in probes.plan.variants] == [1, 3, 3]
    assert probes.budget == msdk.budget(msdk.load_recipe(UNIFIED, ["encoder.channels=8"])).training.total_flops
