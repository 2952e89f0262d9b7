"""Promises of how training draws stages: exact laws of the step alone, the same on any number of processes."""

import itertools
import json
import math
import warnings

import attrs
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from processes import processes

import msdk
from msdk.budgeting.memory import grouped_counts, memory
from msdk.denoiser.building import build
from msdk.distributed import this_rank, together
from msdk.errors import PartError, RecipeError, RunError
from msdk.recipe import StageDraw, cautions, load_recipe, to_data, to_toml, unseen
from msdk.recipe.checks import check_trainable
from msdk.recipe.schema import recipe_schema
from msdk.runs import latest, load_checkpoint, run_recipe
from msdk.training.drawing import Feed, draw_stages, draw_times, mixed_seed, strata
from msdk.training.loop import Trainer
from recipes import tiny

STILL = "decoders=[" + ", ".join(f'{{name="ddpmpp", channels={width}, dropout=0.0}}' for width in (12, 8, 4)) + "]"
LAWS = {
    "natural": ("training.stage_draw=natural", "training.stage_groups=4"),
    "uniform": ("training.stage_draw=uniform", "training.stage_groups=2"),
    "shares": ("training.stage_draw={shares=[1, 6, 1]}", "training.importance=true"),
    "stratified": ("training.stage_draw=stratified", "training.stage_groups=4", "training.accumulation=2"),
    "stratified-shares": ("training.stage_draw={name='stratified', shares=[0.125, 0, 0.875]}",),
    "round-robin": ("training.stage_draw={name='round-robin', every=2}", "training.importance=true"),
    "curriculum": ("training.stage_draw={name='curriculum', every=2, shares='uniform'}",),
    "some": ("stages.train=[0, 2]", "stages.train_encoder=false", "training.stage_draw=uniform"),
}
"""Settings of each law, in which some batches of 8 lack a stage, or have a single image of it."""


@st.composite
def laws(draw):
    """A settled law, natural shares of which some may be 0, and a number of groups and of steps."""
    natural = draw(st.lists(st.sampled_from([0.0, 0.01, 0.3, 1.0, 7.0]), min_size=1, max_size=5).filter(any))
    natural = [share / sum(natural) for share in natural]
    given = st.tuples(*(st.just(0.0) if not share else st.sampled_from([0.5, 1.0, 4.0]) for share in natural))
    name = draw(st.sampled_from(["natural", "uniform", "shares", "stratified", "round-robin", "curriculum"]))
    shares = {
        "shares": given,
        "stratified": st.one_of(st.none(), st.just("natural"), given),
        "curriculum": st.one_of(st.none(), st.just("uniform"), given),
    }.get(name, st.none())
    every = st.one_of(st.none(), st.integers(1, 4)) if name in ("round-robin", "curriculum") else st.none()
    law, steps = StageDraw(name=name, shares=draw(shares), every=draw(every)), draw(st.integers(1, 17))
    law.check(len(natural))
    law = law.settled(steps, len(natural))
    law.reach(natural)
    return law, natural, draw(st.integers(1, 6)), steps


@settings(deadline=None, max_examples=150)
@given(laws())
def test_a_law_is_one_of_every_step(found):
    """Shares of a step add up to 1, and what is said of many steps is the sum over each of them."""
    law, natural, groups, steps = found
    each = [law.at(step, natural) for step in range(steps)]
    for shares in each:
        assert math.fsum(shares) == pytest.approx(1)
        assert all(share >= 0 for share in shares)
        assert not any(share for share, own in zip(shares, natural, strict=True) if not own)
    means = [math.fsum(column) / steps for column in zip(*each, strict=True)]
    assert law.mean(steps, natural) == pytest.approx(means, abs=1e-12)
    assert sum(count for count, _ in law.phases(steps, natural)) == steps
    for stage, expected in enumerate(law.steps(steps, natural, groups)):
        present = (
            min(1, groups * shares[stage]) if law.name == "stratified" else 1 - (1 - shares[stage]) ** groups
            for shares in each
        )
        assert expected == pytest.approx(math.fsum(present), abs=1e-9)


@settings(deadline=None, max_examples=150)
@given(laws(), st.integers(0, 2**62))
def test_groups_are_drawn_by_the_law(found, seed):
    """One stage for each group, never one without a share; of the stratified, their share rounded up or down."""
    law, natural, groups, steps = found
    shares = law.at(steps - 1, natural)
    stages = draw_stages(law, shares, groups, torch.Generator().manual_seed(seed))
    counts = torch.bincount(stages, minlength=len(shares)).tolist()
    assert sum(counts) == groups
    assert not any(count for count, share in zip(counts, shares, strict=True) if not share)
    if law.name == "stratified":
        ideal = [groups * share for share in shares]
        assert all(abs(count - share) < 1 - 1e-9 for count, share in zip(counts, ideal, strict=True))


@settings(deadline=None, max_examples=100)
@given(st.lists(st.integers(0, 9), min_size=1, max_size=6).filter(any), st.integers(1, 40))
def test_what_is_left_over_is_exact_on_average(parts, groups):
    """The mean number of groups of each stage over all of u, integrated from jump to jump, is its share of them."""
    shares = torch.tensor(parts, dtype=torch.float64)
    ends = (groups * shares.cumsum(0) / shares.sum()).frac().tolist()
    jumps = sorted({0.0, 1.0, *ends})
    mean = torch.zeros(len(parts), dtype=torch.float64)
    for low, high in itertools.pairwise(jumps):
        mean += (high - low) * strata(shares, groups, torch.tensor((low + high) / 2, dtype=torch.float64)).double()
    torch.testing.assert_close(mean, groups * shares / shares.sum(), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("stages", range(1, 13))
def test_equal_shares_of_whole_numbers_are_never_off_by_one(stages):
    """Batch / 3 images of each of 3 stages, whatever is drawn, as the paper's LDM has them; the same of any number."""
    shares = torch.full((stages,), 1 / stages, dtype=torch.float64)
    for u in (0.0, 0.5, 1 - 2**-53):
        counts = strata(shares, 4 * stages, torch.tensor(u, dtype=torch.float64))
        assert counts.tolist() == [4] * stages


@pytest.mark.parametrize("law", LAWS)
def test_draws_of_a_run_have_their_expected_shares(law):
    """Images and updates of each stage over 600 steps are what the recipe expects, within 5 standard errors."""
    steps, batch = 600, 8
    recipe = tiny(*LAWS[law], f"training.iterations={steps}", f"training.batch_size={batch}")
    denoiser, groups = build(recipe, "meta"), recipe.training.groups(batch)
    images, updates = torch.zeros(3), torch.zeros(3)
    for step in range(steps):
        generator = torch.Generator().manual_seed(mixed_seed(7, "draw", step))
        stages, times = draw_times(recipe, denoiser, batch, generator, step)
        assert torch.equal(denoiser.partition.of(denoiser.schedule.ratio(times)), stages)
        assert (stages.view(groups, -1) == stages.view(groups, -1)[:, :1]).all()
        counts = torch.bincount(stages, minlength=3)
        images, updates = images + counts, updates + (counts > 0)
    natural, draw = recipe.natural_shares(), recipe.stage_draw
    certain = torch.zeros(3, dtype=torch.float64)
    for step in range(steps):
        shares = torch.tensor(draw.at(step, natural), dtype=torch.float64)
        certain += shares * (1 - shares)
    error = 5 * (batch * batch / groups * certain).sqrt()
    for found, expected, most in zip(images.tolist(), recipe.training_images(steps), error.tolist(), strict=True):
        assert abs(found - expected) <= most + 1e-6
    for found, expected in zip(updates.tolist(), recipe.stage_updates(), strict=True):
        spread = expected * (1 - expected / steps)
        assert abs(found - expected) <= 5 * math.sqrt(max(spread, 0)) + 1e-6


def test_updates_of_the_published_runs():
    """With a stage for each of four processes a decoder is updated far more often than with one for each batch."""
    edm = load_recipe("recipes/cifar10/edm-multistage.toml")
    assert edm.training.groups(edm.training.batch_size) == 4
    assert [round(steps) for steps in edm.stage_updates()] == [1_562_497, 208_146, 21_788]
    alone = load_recipe("recipes/cifar10/edm-multistage.toml", ["training.stage_groups=1"])
    assert [round(steps) for steps in alone.stage_updates()] == [1_502_166, 54_859, 5_476]
    # With the shares rounded to 3.51 and 0.35 %, as they are published:
    rounded = StageDraw(name="natural").settled(1_562_500, 3)
    for groups, figures in ((4, [208_092, 21_760]), (1, [54_843, 5_468])):
        found = rounded.steps(1_562_500, [0.9614, 0.0351, 0.0035], groups)[1:]
        assert list(map(math.floor, found)) == figures
    dpm = load_recipe("recipes/cifar10/dpm-multistage.toml")
    assert dpm.training.groups(dpm.training.batch_size) == 2
    assert dpm.stage_updates() == pytest.approx([250_000 * 5 / 9] * 3)
    ldm = load_recipe("recipes/celeba256/ldm-multistage.toml")
    assert ldm.stage_updates() == [170_000] * 3
    generator = torch.Generator().manual_seed(0)
    stages, _ = draw_times(ldm, build(ldm, "meta"), 48, generator)
    assert torch.bincount(stages).tolist() == [16, 16, 16]


@pytest.mark.parametrize("law", [law for law in LAWS if law not in ("stratified-shares", "curriculum", "round-robin")])
def test_importance_makes_up_for_other_shares(law):
    """Over all that a step can draw, the weighted mean of any gradients is that of natural draws."""
    recipe = tiny(*LAWS[law], "training.importance=true")
    natural, gradients = recipe.natural_shares(), (3.0, -5.0, 0.7)
    wanted = math.fsum(share * gradient for share, gradient in zip(natural, gradients, strict=True))
    for step in range(4):
        drawn = recipe.stage_draw.at(step, natural)
        weights = recipe.stage_draw.importance(step, natural)
        found = math.fsum(p * w * g for p, w, g in zip(drawn, weights, gradients, strict=True))
        assert found == pytest.approx(wanted, rel=1e-12)


def test_importance_makes_up_over_a_round():
    """In round-robin the mean is right over whole rounds, and recipes are told that it is not in a step."""
    recipe = tiny(*LAWS["round-robin"])
    natural, gradients = recipe.natural_shares(), (3.0, -5.0, 0.7)
    draw, found = recipe.stage_draw, 0.0
    for step in range(6):
        drawn, weights = draw.at(step, natural), draw.importance(step, natural)
        found += math.fsum(p * w * g for p, w, g in zip(drawn, weights, gradients, strict=True)) / 6
    assert found == pytest.approx(math.fsum(share * g for share, g in zip(natural, gradients, strict=True)))
    assert any("only over a whole round" in sentence for sentence in cautions(recipe))


@pytest.mark.parametrize("law", ["shares", "round-robin"])
def test_importance_is_in_the_weights_of_a_step(law):
    """What the loss is weighted with is the recipe's weighting times the stage's importance."""
    recipe = tiny(*LAWS[law], 'weighting={name="edm"}')
    denoiser, source, natural = build(recipe), recipe.data.open(), recipe.natural_shares()
    with torch.random.fork_rng():
        draw = Feed(recipe, denoiser, source)(3).draw
    expected = [
        recipe.weighting.weight(recipe.schedule, t) * recipe.stage_draw.importance(3, natural)[stage]
        for t, stage in zip(draw.times.tolist(), draw.stages.tolist(), strict=True)
    ]
    assert draw.weights.tolist() == pytest.approx(expected, rel=1e-12)


def trained(recipe, folder, steps, group):
    """Weights, averages, stages and losses, idle weights after steps in float64, in this process of a group."""
    trainer = Trainer(recipe, folder, recipe.data.open(), [], "cpu", group)
    trainer.step.trained.double()
    trainer.step.ema.averages = [average.double() for average in trainer.step.ema.averages]
    told, feed = [], trainer.feed

    def fed(iteration):
        work = feed(iteration)
        batch = work.batch._replace(images=work.batch.images.double())
        return work._replace(batch=batch, draw=attrs.evolve(work.draw, noise=work.draw.noise.double()))

    fed.before = feed.before
    trainer.feed = fed
    for _ in range(steps):
        work, values = trainer.advance()
        sums = torch.zeros(3, dtype=torch.float64).index_add_(0, work.draw.stages, values)
        told.append((work.stages, group.total(sums)))
    idle = sorted(name for name, weight in trainer.step.trained.named_parameters() if weight.grad is None)
    return trainer.step.trained.state_dict(), trainer.step.ema.averages, told, idle


def test_any_number_of_processes_trains_the_same_run(tmp_path):
    """Under every law two processes get the weights of one, to 1e-12, with stages of one image and absent ones."""
    recipes = [tiny(STILL, *law, "training.warmup=0", "training.batch_size=8") for law in LAWS.values()]

    def all_of_them():
        with together(this_rank()) as group:
            return [trained(recipe, tmp_path, 5, group) for recipe in recipes]

    one = all_of_them()
    single, absent = set(), set()
    for found in processes(2, all_of_them, tmp_path):
        assert found is not None
        for law, ours, theirs in zip(LAWS, one, found, strict=True):
            weights, averages, told, idle = ours
            largest = max(float(weight.abs().max()) for weight in weights.values())
            for name, weight in weights.items():
                torch.testing.assert_close(theirs[0][name], weight, rtol=1e-12, atol=1e-12 * largest)
            for own, average in zip(theirs[1], averages, strict=True):
                torch.testing.assert_close(own, average, rtol=1e-12, atol=1e-12 * largest)
            for (stages, sums), (same, own) in zip(told, theirs[2], strict=True):
                assert torch.equal(stages, same)
                torch.testing.assert_close(own, sums, rtol=1e-11, atol=1e-11)
                counts = torch.bincount(stages, minlength=3)
                single |= {law} if (counts == 1).any() else set()
                absent |= {law} if (counts == 0).any() else set()
            assert theirs[3] == idle
    # With 4 groups of 2 images no stage has a single one; of 4 equal groups each of 3 stages has one.
    assert absent == LAWS.keys() - {"stratified"}
    assert {"shares", "stratified-shares"} <= single


# --- training some stages ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("sharing", "encoder"), [("shared", True), ("shared", False), ("separate", True)])
def test_stages_that_are_not_trained_stay_as_they_are(tmp_path, sharing, encoder):
    """Weights, averages and the optimiser's state of the others do not change; the encoder by choice."""
    settings = (f"sharing={sharing}", "training.warmup=0", "training.ema_decay=0.5")
    recipe = tiny(*settings, "stages.train=[1]", f"stages.train_encoder={str(encoder).lower()}")
    trainer = Trainer(recipe, tmp_path, recipe.data.open(), [], "cpu")
    with torch.random.fork_rng():
        for _ in range(3):
            trainer.advance()
    assert trainer.images_by_stage == [0, 24, 0]
    assert not unseen(recipe, trainer.images_by_stage)  # nobody asked for the others
    initial, kept = build(tiny(*settings)).network.state_dict(), trainer.state()
    own = ("decoders.1.", *(("encoders.0." if sharing == "shared" else "encoders.1.",) if encoder else ()))
    for found in (kept.model, kept.ema):
        moved = {name for name, value in initial.items() if not torch.equal(found[name], value)}
        assert all(any(name.startswith(part) for name in moved) for part in own)
        assert all(name.startswith(own) for name in moved)
    assert kept.optimizer
    assert all(key.partition("/")[2].startswith(own) for key in kept.optimizer)


def test_what_is_frozen_costs_no_backward_pass():
    """Budgets, their memory and the ledger count the gradients that there are, and the moments of what is trained."""
    plain, some = msdk.budget(tiny()), msdk.budget(tiny("stages.train=[0]"))
    alone = msdk.budget(tiny("stages.train=[0]", "stages.train_encoder=false"))
    assert [stage.images for stage in some.training.stages] == [4 * 8, 0, 0]
    assert [stage.updates for stage in some.training.stages] == [4, 0, 0]
    params = plain.stages[0].parameters
    assert some.parameters.trained == params.encoder + params.decoder
    assert alone.parameters.trained == params.decoder
    assert alone.parameters.optimizer == 2 * params.decoder
    first = [budget.image_flops[0] for budget in (plain, some, alone)]
    assert first[0].backward == first[1].backward == 2 * first[0].forward
    decoder = plain.stages[0].decoder_macs
    # Gradients of the decoder's weights and of its features but for the first layer's, whose input asks for none.
    assert decoder * 2 < first[2].backward < decoder * 4
    held = memory(tiny("stages.train=[0]", "stages.train_encoder=false"), batch=2).held
    assert held.gradients == 4 * params.decoder
    assert held.params == 4 * plain.parameters.total


@given(st.integers(1, 64), st.integers(1, 64), st.sampled_from([[0.2, 0.3, 0.5], [1.0, 0.0, 0.0], [0.0, 0.9, 0.1]]))
def test_a_simulated_batch_has_no_more_stages_than_groups(batch, groups, shares):
    """What memory is simulated with: whole groups of the stages that are drawn, all images among them."""
    groups = min(batch, groups)
    counts = grouped_counts(batch, groups, shares)
    assert sum(counts.values()) == batch
    assert len(counts) <= groups
    assert all(shares[stage] > 0 and count >= batch // groups for stage, count in counts.items())


def test_ledger_and_metrics_tell_what_was_expected(tmp_path):
    """A curriculum's expectation follows its turns, so that it can be compared at any step."""
    settings = ("stages.train=[0, 2]", "training.stage_draw=curriculum", "training.iterations=6")
    recipe = tiny(*settings, "training.log_every=2")
    msdk.train(recipe, tmp_path / "run", device="cpu")
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert lines[0]["expected_images_by_stage"] == lines[0]["images_by_stage"] == [0, 0, 16]
    assert [sum(line["expected_images_by_stage"]) for line in lines] == pytest.approx([16, 32, 48])
    natural = recipe.natural_shares()
    assert lines[1]["expected_images_by_stage"] == pytest.approx([16 * natural[0], 0, 16 + 16 * natural[2]])
    assert lines[1]["images_by_stage"][1] == 0
    found = json.loads((tmp_path / "run" / "ledger.json").read_text())
    assert found["predicted"]["images_by_stage"] == pytest.approx(lines[-1]["expected_images_by_stage"])


# --- settings ---------------------------------------------------------------------------------------------------------


def test_a_name_stands_for_its_law():
    """In files, on the command line, in Python and back; a table of settings is written as one."""
    assert tiny("training.stage_draw=stratified").training.stage_draw == StageDraw(name="stratified")
    assert to_data(tiny("training.stage_draw=stratified").training)["stage_draw"] == "stratified"
    assert tiny("training.stage_draw.name=uniform").training.stage_draw == StageDraw(name="uniform")
    turned = tiny("training.stage_draw=round-robin", "training.stage_draw.every=5")
    assert turned.training.stage_draw == StageDraw(name="round-robin", every=5)
    given = tiny("training.stage_draw=uniform", "training.stage_draw={shares=[1, 2, 3]}")
    assert given.training.stage_draw == StageDraw(shares=(1.0, 2.0, 3.0))
    assert attrs.evolve(given.training, stage_draw="natural").stage_draw == StageDraw(name="natural")


@pytest.mark.parametrize("law", LAWS)
def test_a_law_is_written_as_it_was_read(tmp_path, law):
    """By `to_toml` and back, where it is the same recipe."""
    recipe = tiny(*LAWS[law])
    (tmp_path / "again.toml").write_text(to_toml(recipe))
    assert load_recipe(tmp_path / "again.toml") == recipe


def test_the_schema_knows_names_and_tables():
    """So that editors complete both."""
    draw = recipe_schema()[0]["properties"]["training"]["properties"]["stage_draw"]
    bare, table = draw["anyOf"]
    assert "round-robin" in bare["enum"]
    assert "default" not in bare
    assert table["properties"].keys() == {"name", "shares", "every", "own"}
    assert table["properties"]["every"]["minimum"] == 1


def test_edges_leave_what_is_trained_alone():
    """`[stages]` is one choice of edges; which stages are trained is another."""
    recipe = tiny("stages.train=[0]", "stages.edges_ratio=[0.5, 2.0]", "stages.train_encoder=false")
    assert (recipe.stages.train, recipe.stages.train_encoder) == ((0,), False)
    assert recipe.stages.edges_ratio == (0.5, 2.0)
    assert recipe.with_partition(recipe.partition()).stages == recipe.stages


@pytest.mark.parametrize(
    ("settings", "path", "words"),
    [
        (["training.stage_draw=other"], "training.stage_draw.name", "expected one of natural, uniform, shares, strat"),
        (["training.stage_draw=3"], "training.stage_draw", "expected a table, got 3"),
        (["training.stage_draw={shares=[1, 2]}"], "training.stage_draw", "2 entries for 3 stages: give one for each"),
        (["training.stage_draw={shares=[1, -1, 1]}"], "training.stage_draw", "0 or more, and one of them is more, got"),
        (["training.stage_draw={shares=[0, 0, 0]}"], "training.stage_draw", "one of them is more, got [0.0, 0.0, 0.0]"),
        (["training.stage_draw={shares=[1e308, 1e308, 1e308]}"], "training.stage_draw", "use less extreme settings"),
        (["training.stage_draw={shares=[1, nan, 1]}"], "training.stage_draw.shares.1", "expected a finite number"),
        (["training.stage_draw={shares='even'}"], "training.stage_draw.shares", "one of natural, uniform, got 'even'"),
        (["training.stage_draw={}"], "training.stage_draw", 'give the name of a law, such as "uniform", or { shares'),
        (["training.stage_draw={name='uniform', shares=[1, 1, 1]}"], "training.stage_draw", "are its own: leave them"),
        (["training.stage_draw={name='natural', every=2}"], "training.stage_draw", "which natural has not: leave it"),
        (["training.stage_draw={name='round-robin', every=0}"], "training.stage_draw.every", "must be >= 1: 0"),
        (
            ["training.stage_draw={shares=[1, 1, 1]}", "stages.train=[0, 1]"],
            "training.stage_draw",
            "shares gives stage 2 1, but training draws no time there: make it 0",
        ),
        (
            ["training.stage_draw={shares=[1, 1, 1]}", "training.noise={name='uniform', t_first=0.9}"],
            "training.stage_draw",
            "shares gives stage 0 1, but training draws no time there",
        ),
        (["training.stage_groups=3"], "training.stage_groups", "8 cannot be cut into 3 groups of one size: use 2, or"),
        (
            ["training.stage_groups=2", "training.mixed=false"],
            "training.mixed",
            "but stage_groups is 2: leave mixed out",
        ),
        (
            ["training.stage_groups=2", "training.stage_draw=round-robin"],
            "training.stage_groups",
            "one stage, so there",
        ),
        (["training.importance=true", "training.stage_draw=curriculum"], "training.importance", "no weights make up"),
        (
            ["training.importance=true", "training.stage_draw={shares=[1, 0, 1]}"],
            "training.importance",
            "never draws stage 1, which weights cannot make up for: give it a share",
        ),
        (["stages.train=[0, 3]"], "stages.train", "there is no stage 3: there are 3, 0 to 2, least noise first"),
        (["stages.train=[-1]"], "stages.train", "there is no stage -1"),
        (["stages.train=[]"], "stages.train", "names no stage, so nothing would be trained"),
        (["stages.train=[1, 1]"], "stages.train", "names a stage twice: [1, 1]"),
        (
            ["stages.train=[0]", "training.noise={name='uniform', t_first=0.9}"],
            "stages.train",
            "training.noise draws no time in these stages",
        ),
    ],
)
def test_settings_that_cannot_be_are_told(settings, path, words):
    """With the key, what is wrong and what to do; each mistake once."""
    with pytest.raises(RecipeError) as told:
        tiny(*settings)
    assert [problem.path for problem in told.value.problems] == [path]
    assert words in told.value.problems[0].message


def test_what_edges_decide_is_asked_once_they_are_known():
    """A recipe whose clustering is still to run is good; training it asks again."""
    recipe = tiny(
        "stages.clustering={name='snr'}",
        "training.stage_draw={shares=[1, 1, 1]}",
        "training.noise={name='uniform', t_first=0.9}",
    )
    with pytest.raises(PartError, match=r"training\.stage_draw: shares gives stage 0 1"):
        check_trainable(recipe.with_partition(msdk.Partition((0.3, 2.5))))


def test_an_old_word_and_the_law_decide_how_many_groups_there_are():
    """One place: `stage_groups`, else 1 for `mixed = false` and round-robin, else one for each image."""
    assert tiny().training.groups(8) == 8
    assert tiny("training.mixed=false").training.groups(8) == 1
    assert tiny("training.mixed=false", "training.stage_groups=1").training.groups(8) == 1
    assert tiny("training.stage_groups=4").training.groups(8) == 4
    assert tiny("training.stage_draw=round-robin").training.groups(8) == 1


def test_a_run_goes_on_under_its_law(tmp_path):
    """A curriculum of 6 steps stopped after 3 is the one that never stopped; an open one is not stretched."""
    recipe = tiny("training.stage_draw={name='curriculum', every=2}", "training.iterations=6")
    half = attrs.evolve(recipe, training=attrs.evolve(recipe.training, iterations=3))
    whole = msdk.train(recipe, tmp_path / "whole", device="cpu")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that iterations changed is said
        msdk.train(half, tmp_path / "halves", device="cpu")
        halves = msdk.train(recipe, tmp_path / "halves", device="cpu", resume=True)
    assert whole.images_by_stage == halves.images_by_stage
    ours, theirs = (load_checkpoint(latest(tmp_path / name)).model for name in ("whole", "halves"))
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    short = tiny("training.stage_draw=curriculum", "training.iterations=3")
    msdk.train(short, tmp_path / "open", device="cpu")
    longer = attrs.evolve(short, training=attrs.evolve(short.training, iterations=6))
    with pytest.raises(RunError, match=r"training\.stage_draw\.every \(1 there, 2 here\)"):
        msdk.train(longer, tmp_path / "open", device="cpu", resume=True)
    assert run_recipe(tmp_path / "open") == short
