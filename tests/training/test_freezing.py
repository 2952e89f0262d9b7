"""Promises of `training.stop`: what overfits goes back to its best weights and stays, and a run can stop in between."""

import json
import os
import shutil
import signal
import warnings

import attrs
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from parity import STILL
from PIL import Image
from processes import processes

import msdk
from msdk.browsing import compare, summary
from msdk.budgeting.ledger import ledger
from msdk.distributed import Rank
from msdk.errors import RecipeError
from msdk.report.comparisons import comparison_grids, curves_plot
from msdk.report.resources import spent_grid
from msdk.runs import latest, load_checkpoint
from msdk.runs.watched import Watched
from msdk.training.dealing import deal
from msdk.training.drawing import Feed
from msdk.training.loop import Trainer
from recipes import tiny

STOPPING = (
    STILL,
    "sharing=separate",
    "training.iterations=60",
    "training.validate_every=2",
    "training.lr=0.02",
    "training.warmup=0",
    "training.ema_decay=0.5",
    "training.batch_size=12",
    "training.log_every=100",
)


@pytest.fixture(scope="module")
def few(tmp_path_factory):
    """A few images of noise, which nothing learned of some helps with others; a network that learns them overfits."""
    folder = tmp_path_factory.mktemp("few")
    generator = torch.Generator().manual_seed(0)
    for index in range(10):
        pixels = torch.randint(0, 256, (8, 8), dtype=torch.uint8, generator=generator)
        Image.fromarray(pixels.numpy()).save(folder / f"{index}.png")
    return f'data={{name="folder", path="{folder}", size=8, channels=1, held_out=0.4}}'


def overfitting(few, *options, stop="{ patience = 1 }"):
    return tiny(*STOPPING, few, f"training.stop={stop}", *options)


def lines(run):
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def run(few, tmp_path_factory):
    """All of its stages overfit and stop."""
    folder = tmp_path_factory.mktemp("run") / "run"
    recipe = overfitting(few, "training.checkpoint_every=2", "training.keep=40")
    return folder, msdk.train(recipe, folder, device="cpu")


def of_stage(weights, stage):
    return {name: each for name, each in weights.items() if name.split(".")[1] == str(stage)}


def test_a_stage_that_overfits_has_the_weights_of_its_best_look(run):
    """Raw and averaged, bit for bit, in the last checkpoint: so these are sampled; and training ends once all stay."""
    folder, result = run
    told = [line for line in lines(folder) if "held_out_loss_by_stage" in line]
    final = load_checkpoint(latest(folder))
    assert result.last.iteration == final.iteration == told[-1]["iteration"] < 60
    for stage in range(3):
        curve = {line["iteration"]: line["held_out_loss_by_stage"][stage] for line in told}
        frozen = final.watched.frozen[stage]
        best = min((at for at in curve if at <= frozen), key=curve.get)
        assert final.watched.best[stage] == curve[best]
        assert frozen == best + 2 * 1  # the next look was not better; each batch of 12 had images of every stage
        then = load_checkpoint(folder / "checkpoints" / f"{best:08d}")
        for part in ("model", "ema"):
            now, was = of_stage(getattr(final, part), stage), of_stage(getattr(then, part), stage)
            assert now
            assert all(torch.equal(now[name], was[name]) for name in now), (stage, part)
        assert any(not torch.equal(was, final.model[name]) for name, was in of_stage(then.ema, stage).items())
    assert final.best == {}
    weights = msdk.load_run(folder).network.state_dict()
    assert all(torch.equal(weights[name], final.ema[name]) for name in weights)


def test_the_ledger_says_what_was_saved(run, capsys):
    """Since when each stage stays, and some FLOPs, which a later reading of the folder tells alike."""
    folder, result = run
    found = json.loads((folder / "ledger.json").read_text())
    stopping = found["stopping"]
    assert stopping["iteration_by_stage"] == list(result.watched.frozen)
    assert stopping["ended"] is True
    assert stopping["saved_flops"] == pytest.approx(sum(stopping["saved_flops_by_stage"]))
    assert stopping["saved_flops"] > 0
    again = msdk.budget(folder).ledger
    assert again.as_json() == found


@pytest.mark.parametrize(
    ("share", "frozen", "images"),
    [
        ("keep", (None, 4, None), lambda p: [0, 6 * p[1], 0]),
        ("give", (None, 4, None), lambda p: [-6 * p[1] * p[0] / (1 - p[1]), 6 * p[1], -6 * p[1] * p[2] / (1 - p[1])]),
        ("keep", (4, 4, 4), lambda p: [20 * 0.8 * each for each in p]),
        ("keep", (None, 10, None), lambda p: [0, 0, 0]),
    ],
)
def test_what_is_saved_is_what_was_not_trained(few, share, frozen, images):
    """Since then, at what an image of the stage costs; of given draws less what others took; all where it ends."""
    recipe = overfitting(few, "training.iterations=20", stop=f'{{ patience = 1, share = "{share}" }}')
    budget, at = msdk.budget(recipe), 4 if None not in frozen else 10
    watched = attrs.evolve(Watched.nothing(3), frozen=frozen)
    found = ledger(budget, [1, 1, 1], at, recipe, watched).stopping
    prices = [price.forward + price.backward for price in budget.image_flops]
    wanted = [12 * each * price for each, price in zip(images(recipe.natural_shares()), prices, strict=True)]
    assert found.saved_flops_by_stage == pytest.approx(wanted, abs=1e-3)
    assert found.ended == (None not in frozen)


def test_a_stop_ends_no_run_twice(run):
    """Nothing is left to train, so going on does nothing."""
    folder, result = run
    before = (folder / "metrics.jsonl").read_bytes()
    assert msdk.train(msdk.runs.run_recipe(folder), folder, resume=True, device="cpu").last.iteration == (
        result.last.iteration
    )
    assert (folder / "metrics.jsonl").read_bytes() == before


def test_runs_and_comparisons_show_it(run, tmp_path):
    """A run that stopped by itself is done; held-out losses stand beside those of training, in tables and dashed."""
    folder, result = run
    found, last = summary(folder), lines(folder)[-1]
    assert (found.state, found.iteration) == ("done", result.last.iteration)
    assert list(found.held_out_loss_by_stage) == last["held_out_loss_by_stage"]
    assert found.held_out_loss == last["held_out_loss"]
    assert result.last.held_out_by_stage == pytest.approx(last["held_out_loss_by_stage"])
    other = tmp_path / "other"
    shutil.copytree(folder, other)
    beside = compare([folder, other])
    assert beside.notes == ()
    rows = {row[0]: row[1:] for row in comparison_grids(beside)[0].rows}
    assert rows["held-out loss of stage 1"] == (f"{last['held_out_loss_by_stage'][1]:.4f}",) * 2
    assert curves_plot(beside, "svg").count(b"stroke-dasharray") >= 4 * 2
    text = (other / "recipe.toml").read_text()
    (other / "recipe.toml").write_text(text.replace("validate_images = 2048", "validate_images = 9"))
    (note,) = compare([folder, other]).notes
    assert "held-out losses of other are of other weights or images than those of run: ema on at most 9" in note
    (sentence,) = result.stops[:1]
    assert sentence.startswith("stage 0 has had the weights of its best look at held-out images since iteration ")
    told = " ".join(spent_grid(msdk.budget(folder).ledger, "").notes)
    assert "; training ended by it: " in told
    assert "FLOPs less than all iterations would have taken." in told
    assert json.loads((folder / "lock.json").read_text())["data"]["held_out"] == 0.4


@pytest.mark.parametrize("share", ["give", "keep"])
def test_stopping_goes_on_bit_for_bit(few, tmp_path, share):
    """A run that is ended before and after a stage stops ends as one that is not, in weights, lines and ledger."""
    stop = f'{{ patience = 1, share = "{share}" }}'
    recipe = overfitting(few, "training.iterations=6", "training.workers=2", stop=stop)
    msdk.train(recipe, tmp_path / "whole", device="cpu")
    for at in (3, 5):

        def end(step, at=at):
            if step.iteration == at:
                os.kill(os.getpid(), signal.SIGTERM)

        msdk.train(recipe, tmp_path / "run", device="cpu", resume=True, progress=end)
    msdk.train(recipe, tmp_path / "run", device="cpu", resume=True)
    one, other = (load_checkpoint(latest(tmp_path / name)) for name in ("whole", "run"))
    assert one.watched == other.watched
    assert any(at is not None for at in one.watched.frozen)
    for part in ("model", "ema", "optimizer", "best"):
        ours, theirs = getattr(one, part), getattr(other, part)
        assert ours.keys() == theirs.keys()
        assert all(torch.equal(ours[name], theirs[name]) for name in ours), part
    clocks = ("seconds", "images_per_second", "data_seconds", "memory_peak_bytes")
    curves = [
        [{key: value for key, value in line.items() if key not in clocks} for line in lines(tmp_path / name)]
        for name in ("whole", "run")
    ]
    assert curves[0] == curves[1]


def test_processes_agree(few, tmp_path):
    """Two of them stop the same stages at the same looks, and one process goes on from what they left."""
    short = overfitting(few, "training.iterations=5", "training.parallel=fsdp")
    found = processes(2, lambda: msdk.train(short, tmp_path / "two", device="cpu").watched, tmp_path)
    msdk.train(short, tmp_path / "one", device="cpu")
    one, two = (load_checkpoint(latest(tmp_path / name)) for name in ("one", "two"))
    assert found[0] == found[1] == two.watched
    assert None in two.watched.frozen != (None,) * 3
    assert two.watched.frozen == one.watched.frozen
    assert two.watched.best == pytest.approx(one.watched.best, rel=1e-3)
    for part in ("model", "best"):
        ours, theirs = getattr(one, part), getattr(two, part)
        assert ours.keys() == theirs.keys()
        for name in ours:
            torch.testing.assert_close(theirs[name], ours[name], rtol=5e-2, atol=1e-2)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        more = attrs.evolve(short, training=attrs.evolve(short.training, iterations=7))
        assert msdk.train(more, tmp_path / "two", device="cpu", resume=True).last.iteration in (6, 7)


def test_all_can_stop_as_one(few, tmp_path):
    """By the mean loss, with the shared encoder: everything has the weights of the best look."""
    stop = '{ patience = 1, by = "run" }'
    recipe = overfitting(few, "sharing=shared", "training.checkpoint_every=2", "training.keep=40", stop=stop)
    run = tmp_path / "run"
    msdk.train(recipe, run, device="cpu")
    curve = {line["iteration"]: line["held_out_loss"] for line in lines(run) if "held_out_loss" in line}
    final, best = load_checkpoint(latest(run)), min(curve, key=curve.get)
    assert final.iteration == best + 2
    then = load_checkpoint(run / "checkpoints" / f"{best:08d}")
    assert all(torch.equal(weight, final.model[name]) for name, weight in then.model.items())
    assert all(torch.equal(weight, final.ema[name]) for name, weight in then.ema.items())


def test_what_becomes_of_the_draws(few, tmp_path):
    """Given, others have them in the ratio of theirs; kept, others have exactly what they had, on any process."""
    give, keep = (overfitting(few, stop=f'{{ patience = 1, share = "{share}" }}') for share in ("give", "keep"))
    denoiser = msdk.build(give)
    before = Feed(give, denoiser, give.data.open())(5)
    feed = Feed(give, denoiser, give.data.open())
    feed.leave_out([1])
    after = [feed(step) for step in range(60)]
    stages = torch.cat([work.stages for work in after])
    natural = give.natural_shares()
    assert set(stages.tolist()) == {0, 2}
    assert len(stages) == 60 * 12
    assert float((stages == 0).double().mean()) == pytest.approx(natural[0] / (natural[0] + natural[2]), abs=0.06)
    feed = Feed(keep, denoiser, keep.data.open())
    feed.leave_out([1])
    work = feed(5)
    others = before.draw.stages != 1
    assert 0 < len(work.draw.stages) < 12
    assert torch.equal(work.batch.images, before.batch.images[others])
    assert torch.equal(work.draw.noise, before.draw.noise[others])
    assert torch.equal(work.draw.times, before.draw.times[others])
    assert work.hand.total == 12
    ranks = [Feed(keep, denoiser, keep.data.open(), Rank(index, 2)) for index in range(2)]
    seen = []
    for rank in ranks:
        rank.leave_out([1])
        part = rank(5)
        counted = slice(None) if part.hand.counted is None else part.hand.counted
        seen += part.draw.times[counted].tolist()
        assert torch.equal(part.stages, work.stages)
    assert sorted(seen) == sorted(work.draw.times.tolist())


def test_turns_of_a_stage_that_stays_go_to_the_others(few, tmp_path):
    """In round robin a whole step would have no image; with nothing to do, a step is empty and moves nothing."""
    recipe = overfitting(few, "training.stage_draw=round-robin")
    feed = Feed(recipe, msdk.build(recipe, "cpu"), recipe.data.open())
    feed.leave_out([1])
    assert set(feed(1).stages.tolist()) <= {0, 2}
    alone = overfitting(few, "training.stage_draw=round-robin", stop='{ patience = 1, share = "keep" }')
    trainer = Trainer(alone, tmp_path, alone.data.open(), [], "cpu")
    trainer.feed.leave_out([1])
    trainer.advance()
    before = {name: weight.clone() for name, weight in trainer.step.denoiser.network.state_dict().items()}
    work, values = trainer.advance()
    assert (len(work.stages), len(values)) == (0, 0)
    after = trainer.step.denoiser.network.state_dict()
    assert all(torch.equal(weight, after[name]) for name, weight in before.items())


def test_what_is_never_drawn_keeps_no_run_from_its_end(few, tmp_path):
    """A stage without a share, or that is not trained, is not waited for, and is given nothing."""
    for option in ("training.stage_draw={ shares = [1, 0, 1] }", "stages.train=[0, 2]"):
        recipe = overfitting(few, option)
        trainer = Trainer(recipe, tmp_path, recipe.data.open(), [], "cpu")
        for frozen, ended in (((4, None, None), False), ((4, None, 6), True)):
            trainer.watch.kept = attrs.evolve(trainer.watch.kept, frozen=frozen)
            assert trainer.watch.ended is ended
        trainer.feed.leave_out([0])
        assert set(trainer.feed(3).stages.tolist()) == {2}


@given(
    stages=st.lists(st.integers(0, 3), min_size=4, max_size=24).map(lambda few: few * 2),
    still=st.sets(st.integers(0, 3), max_size=3),
    count=st.sampled_from([1, 2, 4]),
    parts=st.sampled_from([1, 2]),
)
@settings(max_examples=80, deadline=None)
def test_nobody_gets_images_of_what_stays(stages, still, count, parts):
    """All others once, in each micro-batch the same stages on every process, also where few are left."""
    batch = torch.tensor(stages)
    batch = batch[: len(batch) // (count * parts) * count * parts]
    if not len(batch):
        return
    hands = [deal(batch, Rank(index, count), parts, still) for index in range(count)]
    seen = []
    for hand in hands:
        seen += hand.images[slice(None) if hand.counted is None else hand.counted].tolist()
    assert sorted(seen) == [index for index, stage in enumerate(batch.tolist()) if stage not in still]
    for part in zip(*(hand.draws.split(list(hand.sizes)) for hand in hands), strict=True):
        assert len({tuple(batch[own].unique().tolist()) for own in part}) == 1


def test_stopping_needs_looks():
    """In words; and gives no draws that weights are to make up for."""
    with pytest.raises(RecipeError, match=r"training\.stop +goes by the loss on held-out images: set training\.val"):
        tiny("training.stop={ patience = 2 }")
    looks = ("data.held_out=0.1", "training.validate_every=2", "training.stop={ patience = 2 }")
    with pytest.raises(RecipeError, match=r'training\.stop\.share +"give" changes the shares'):
        tiny(*looks, "training.importance=true", "training.stage_draw=uniform")
    with pytest.raises(RecipeError, match="patience"):
        tiny("data.held_out=0.1", "training.validate_every=2", "training.stop={ patience = 0 }")
