"""Promises of gradients stage by stage: what is combined is what stages share, on any number of processes."""

import json
from random import Random

import attrs
import pytest
import torch
from commands import quick
from hypothesis import given, settings
from hypothesis import strategies as st
from parity import STILL, assert_same, trained
from processes import processes

import msdk
from msdk.batch import Batch, Condition
from msdk.budgeting.memory import training_peaks
from msdk.combinations.nash_mtl import NashMTL
from msdk.combinations.pcgrad import PCGrad
from msdk.errors import RecipeError, RunError
from msdk.objectives.base import Draw
from msdk.recipe.cautions import cautions
from msdk.runs import latest, load_checkpoint
from msdk.training.combining import by_stage
from msdk.training.drawing import mixed_seed
from msdk.training.loop import Trainer
from recipes import latent, tiny

PCGRAD = "training.gradients={name='pcgrad'}"
NASH = "training.gradients={name='nash-mtl', every=3}"
UNCLIPPED = ("training.clip_norm=0", "training.warmup=0")


@given(stages=st.lists(st.integers(0, 3), min_size=1, max_size=12), counts=st.booleans())
@settings(max_examples=40, deadline=None)
def test_a_batch_is_cut_by_stages_and_put_together_again(stages, counts):
    """Every image is in the piece of its stage, with all that is its own; places bring them back in order."""
    own, numbers = torch.tensor(stages), torch.arange(float(len(stages)))
    images = numbers.reshape(-1, 1, 1, 1)
    draw = Draw(own, numbers.double(), numbers.double(), images, extra=images, iteration=7, posterior=images)
    flags = numbers > 2 if counts else None
    pieces, places = by_stage(Batch(images, Condition(numbers.long())), draw, flags)
    assert [piece.stage for piece in pieces] == sorted(set(stages))
    told = []
    for piece in pieces:
        part = piece.batch.images.flatten()
        for each in (piece.draw.times, piece.draw.weights, piece.draw.noise, piece.draw.extra, piece.draw.posterior):
            assert torch.equal(each.flatten().float(), part)
        assert piece.draw.iteration == 7
        assert torch.equal(piece.batch.condition.label.float(), part)
        assert set(piece.draw.stages.tolist()) == {piece.stage}
        assert (piece.counted is None) if flags is None else torch.equal(piece.counted, part > 2)
        told.append(part)
    assert torch.equal(torch.cat(told)[places], numbers)


def first_step(tmp_path, *words):
    """After one step of the real loop: gradients by name, and the trainer."""
    trainer = Trainer(recipe := tiny(STILL, *UNCLIPPED, *words), tmp_path, recipe.data.open(), [], "cpu")
    with torch.random.fork_rng():
        work, values = trainer.advance()
    return {name: p.grad for name, p in trainer.step.trained["network"].named_parameters()}, trainer, work, values


def of_stages(tmp_path):
    """The gradients of each stage in the same step, with the images of all others counting for nothing."""
    found = {}
    for stage in range(3):
        trainer = Trainer(recipe := tiny(STILL, *UNCLIPPED), tmp_path, recipe.data.open(), [], "cpu")
        feed = trainer.feed

        def only(iteration, feed=feed, stage=stage):
            work = feed(iteration)
            return work._replace(draw=attrs.evolve(work.draw, weights=work.draw.weights * (work.draw.stages == stage)))

        only.before, only.reader, only.device = feed.before, feed.reader, feed.device
        trainer.feed = only
        with torch.random.fork_rng():
            trainer.advance()
        own = trainer.step.trained["network"].named_parameters()
        found[stage] = {name: each.grad.clone() for name, each in own if name.startswith("encoders.")}
    return found


@pytest.mark.parametrize("words", [PCGRAD, NASH])
def test_what_stages_share_gets_their_combination(tmp_path, words):
    """From each stage's own gradients, computed one stage at a time; all else gets what it would have got."""
    plain, _, work, values = first_step(tmp_path)
    found, trainer, same, also = first_step(tmp_path, words.replace("every=3", "every=3, largest=1e-5"))
    assert work.stages.unique().tolist() == [0, 1, 2] == same.stages.unique().tolist()
    torch.testing.assert_close(also, values, rtol=1e-5, atol=1e-6)
    parts = of_stages(tmp_path)
    names = list(parts[0])
    vectors = torch.stack([torch.cat([parts[stage][name].flatten() for name in names]) for stage in range(3)]).double()
    gram = vectors @ vectors.T
    rule, generator = trainer.recipe.training.gradients, Random(mixed_seed(1, "gradients", 0))
    assert isinstance(rule, PCGrad if words == PCGRAD else NashMTL)
    wanted = rule.weights(gram, torch.ones(3).double(), 0, generator) @ vectors
    assert (gram < 0).any(), "nothing conflicts here: the test says nothing"
    if rule.largest:
        assert wanted.norm() > 1.5 * rule.largest
        wanted = wanted / (wanted.norm() + 1e-6) * rule.largest
    got = torch.cat([found[name].flatten() for name in names]).double()
    torch.testing.assert_close(got, wanted, rtol=0, atol=2e-5 * float(wanted.abs().max()))
    summed = torch.cat([plain[name].flatten() for name in names]).double()
    assert (got - summed).norm() > 0.01 * summed.norm()
    for name, each in plain.items():
        if name not in names:
            torch.testing.assert_close(found[name], each, rtol=1e-4, atol=1e-6 * float(each.abs().max()) + 1e-9)
    told = trainer.step.shared.told()
    cosines = [gram[i, j] / (gram[i, i] * gram[j, j]).sqrt() for i, j in ((0, 1), (0, 2), (1, 2))]
    assert told["gradient_cosine"] == pytest.approx([float(each) for each in cosines], abs=1e-4)
    assert told["gradient_norm_by_stage"] == pytest.approx(gram.diagonal().sqrt().tolist(), rel=1e-4)


@pytest.mark.parametrize("words", [PCGRAD, NASH])
def test_micro_batches_make_the_same_step(tmp_path, words):
    """Each stage's gradient is of the whole batch before anything is combined."""
    whole, *_ = first_step(tmp_path, words)
    parts, *_ = first_step(tmp_path, words, "training.accumulation=4")
    for name, each in whole.items():
        torch.testing.assert_close(parts[name], each, rtol=1e-3, atol=1e-4 * float(each.abs().max()))


@pytest.mark.parametrize(
    ("count", "words"),
    [
        (4, (PCGRAD, "training.accumulation=2", "training.sanitize=true")),
        (2, (NASH, "training.objective={name='uncertainty'}")),
        (2, (PCGRAD, "training.parallel=fsdp")),
        (2, (NASH, "training.parallel=fsdp", "training.stage_groups=2")),
    ],
    ids=["pcgrad", "nash-mtl", "pcgrad in shards", "nash-mtl in shards"],
)
def test_any_number_of_processes_combines_the_same_gradients(tmp_path, count, words):
    """In float64 to 1e-12, whether a process has all weights or rows; also where a step lacks a stage."""
    recipe = tiny(STILL, *words, "training.warmup=0", "training.batch_size=8")
    one = trained(recipe, tmp_path, 6)
    for found in processes(count, lambda: trained(recipe, tmp_path, 6), tmp_path):
        assert_same(found, one)


def test_a_run_goes_on_with_its_weights(tmp_path):
    """Bit for bit, though the bargain of step 3 still stands at step 4, where the run is taken up again."""
    words = (STILL, NASH, "training.log_every=1", "training.checkpoint_every=1")
    msdk.train(tiny(*words, "training.iterations=6"), tmp_path / "whole")
    msdk.train(tiny(*words, "training.iterations=5"), tmp_path / "halves")
    kept = load_checkpoint(latest(tmp_path / "halves")).combined
    assert len(kept) == 3
    assert min(kept) > 0
    assert kept != (1.0,) * 3
    msdk.train(tiny(*words, "training.iterations=6"), tmp_path / "halves", resume=True)
    whole, halves = (load_checkpoint(latest(tmp_path / run)) for run in ("whole", "halves"))
    assert all(torch.equal(value, halves.model[name]) for name, value in whole.model.items())
    lines = [(tmp_path / run / "metrics.jsonl").read_text().splitlines() for run in ("whole", "halves")]
    told = [
        [(each["gradient_cosine"], each["gradient_norm_by_stage"]) for each in map(json.loads, run)] for run in lines
    ]
    assert told[0] == told[1]
    assert len(told[0]) == 6
    state = latest(tmp_path / "halves") / "state.json"
    data = json.loads(state.read_text())
    data["gradient_weights_by_stage"].pop()
    state.write_text(json.dumps(data))
    with pytest.raises(RunError, match="one number for each stage"):
        msdk.train(tiny(*words, "training.iterations=7"), tmp_path / "halves", resume=True)


def test_cosines_alone_change_nothing_but_rounding(tmp_path):
    """Lines on `log_every` tell them; the weights are those of a run that looks at none, up to the order of sums."""
    words = (STILL, "training.iterations=5", "training.log_every=2", "training.warmup=0")
    msdk.train(tiny(*words), tmp_path / "plain")
    msdk.train(tiny(*words, "training.gradient_cosine=true"), tmp_path / "looks")
    plain, looks = (load_checkpoint(latest(tmp_path / run)).model for run in ("plain", "looks"))
    for name, value in plain.items():
        torch.testing.assert_close(looks[name], value, rtol=1e-3, atol=2e-4)
    lines = [json.loads(line) for line in (tmp_path / "looks" / "metrics.jsonl").read_text().splitlines()]
    assert [("gradient_cosine" in line) for line in lines] == [True, True, False]
    assert all(len(line["gradient_cosine"]) == 3 for line in lines[:2])
    known = [each for line in lines[:2] for each in line["gradient_cosine"] if each is not None]
    assert known
    assert all(-1 <= each <= 1 for each in known)
    assert "gradient_cosine" not in (tmp_path / "plain" / "metrics.jsonl").read_text()


@pytest.mark.parametrize("words", [PCGRAD, NASH])
def test_half_precision_and_latents(tmp_path, words):
    """In float16 the scale is no part of what is combined, nor of the norm that it is held to; latents are encoded."""
    recipe = latent(tmp_path, words, "training.precision=fp16", *UNCLIPPED)
    trainer = Trainer(recipe, tmp_path, recipe.data.open(), [], "cpu")
    with torch.random.fork_rng():
        trainer.advance()
        trainer.advance()
    norms = trainer.step.shared.told()["gradient_norm_by_stage"]
    assert all(each is None or each < 1e3 for each in norms), "the scale of 65536 is in them"
    own = [weight.grad for name, weight in trainer.step.trained.named_parameters() if "encoders" in name]
    if recipe.training.gradients.largest:
        assert torch.cat([each.flatten() for each in own]).norm() <= 1.0001


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("sharing=separate", PCGRAD), 'sharing is "separate"'),
        (("stages.train_encoder=false", "training.gradient_cosine=true"), "train_encoder is false"),
        (('decoders=[{name="ddpmpp", channels=8}]', "stages.edges_ratio=[]", NASH), "there is one stage"),
    ],
)
def test_what_nothing_shares_is_refused(words, told):
    """In words, before anything is built."""
    with pytest.raises(RecipeError, match=rf"training\.gradient\w+ +is about the encoder .*{told}"):
        tiny(*words)


def test_batches_of_one_stage_are_told():
    """They have nothing to combine."""
    assert any("stage_groups" in each for each in cautions(tiny(PCGRAD, "training.stage_groups=1")))
    assert not any("gradients" in each for each in cautions(tiny(PCGRAD)))


def test_memory_holds_one_stage_at_a_time():
    """What is simulated is the step itself: a mixed one has fewer activations at once than one of a stage alone."""
    recipe = tiny(NASH)
    alone, mixed = training_peaks(recipe, msdk.build(recipe, "meta").train(), 8, [0.4, 0.3, 0.3])
    assert mixed < alone[0]


def test_the_command_says_it(tmp_path, capsys, monkeypatch):
    """A short name will do, and a wrong one is answered with the right ones."""
    code, out, _ = quick(capsys, monkeypatch, "list", "combinations")
    assert code == 0
    assert "pcgrad" in out
    assert "nash-mtl" in out
    with pytest.raises(RecipeError, match="pcgrad"):
        tiny("training.gradients={name='pcgrid'}")


@pytest.mark.parametrize("name", ["ant-pcgrad", "ant-nash-mtl"])
def test_recipes_of_ant_train(tmp_path, name):
    """Three steps of the shipped recipe on digits: five stages, ten images of each in every step."""
    small = ["encoder.width=16", "encoder.depth=1", "encoder.heads=2", "encoder.classes=10", "training.iterations=3"]
    small += [f"decoders.{stage}.{key}" for stage in range(5) for key in ("width=16", "heads=2")]
    recipe = msdk.load_recipe(f"recipes/imagenet256/{name}.toml", small)
    run = tmp_path / "run"
    result = msdk.train(attrs.evolve(recipe, data=tiny().data, autoencoder=None), run)
    assert result.images_by_stage == (30,) * 5
    assert len(json.loads((run / "metrics.jsonl").read_text())["gradient_cosine"]) == 10
