"""Promises of plans for many cards: bytes are those of real processes, times follow, and what is no plan is told."""

import itertools
import math
from collections import Counter

import attrs
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from processes import processes

import msdk
from msdk.budgeting.attendance import excess, hands, presence
from msdk.budgeting.cards import card_named
from msdk.budgeting.memory import memory
from msdk.budgeting.planning import estimate
from msdk.budgeting.recording import Recorder
from msdk.budgeting.rehearsing import Rehearsal, rehearse
from msdk.budgeting.scaling import expected, plan
from msdk.budgeting.wires import Sent, Wires, sent_by_a_process, wires_of
from msdk.denoiser.building import build
from msdk.distributed import Rank, this_rank, together
from msdk.errors import MsdkError, PartError, RunError
from msdk.recipe import load_recipe
from msdk.training.dealing import deal, refuse_uneven
from msdk.training.drawing import Feed, draw_times
from msdk.training.step import TrainingStep, in_training
from recipes import latent, tiny


def sizes(sent):
    """Bytes of collectives by their kind."""
    found = Counter()
    for each in sent:
        found[each.kind] += each.size
    return dict(found)


def really_sent(recipe, steps=3):
    """Of a few steps of this process among real ones: stages that the batch has, and what was sent."""
    with together(this_rank()) as group:
        denoiser = in_training(build(recipe, "cpu"))
        step = TrainingStep(recipe, denoiser, group)
        feed = Feed(recipe, denoiser, recipe.data.open(), group.rank)
        found = []
        for iteration in range(steps):
            work = feed(iteration)
            with Recorder() as recorder:
                step(work.batch, work.draw, iteration, work.hand)
            found.append((sorted(set(work.stages.tolist())), sizes(recorder.sent)))
    return found


@pytest.mark.parametrize(
    ("count", "overrides"),
    [
        (4, ("stages.edges_ratio=[0.3, 5.0]", "training.accumulation=2", "training.batch_size=16")),
        (2, ("stages.edges_ratio=[0.3, 6.0]", "training.parallel=fsdp")),
    ],
)
def test_bytes_are_those_of_real_processes(tmp_path, count, overrides):
    """Process by process and step by step, whichever decoders a batch needs: every byte of every kind.

    Few images are in the last stage here, so that some batches have none.
    """
    recipe = tiny(*overrides)
    found = processes(count, lambda: really_sent(recipe), tmp_path)
    rehearsal = rehearse(recipe, count)
    assert len({tuple(stages) for stages, _ in found[0]}) > 1, "the steps need several sets of decoders"
    for own in found:
        for stages, sent in own:
            chances = [float(stage in stages) for stage in range(3)]
            said = {
                kind: expected(rehearsal, chances, lambda sent, kind=kind: sizes(sent).get(kind, 0)).whole
                for kind in sizes(rehearsal.together)
            }
            assert said == sent


@pytest.fixture(scope="module")
def rehearsal():
    return rehearse(tiny("training.batch_size=1024"), 1024)


def test_one_rehearses_for_any_number(rehearsal):
    """What 1,024 processes sum up are the gradients of what a batch needs, once each."""
    network = build(tiny(), "meta").network
    own = [sum(4 * weight.numel() for weight in part.parameters()) for part in network.decoders]
    found = expected(rehearsal, [1.0, 1.0, 1.0], lambda sent: sizes(sent)["all_reduce"])
    assert [found.by_stage[stage] for stage in range(3)] == own
    assert found.shared == sum(4 * weight.numel() for weight in network.encoders.parameters())
    assert found.whole == found.shared + sum(own) == sizes(rehearsal.together)["all_reduce"]


def test_memory_of_a_process():
    """One process alone has what `--memory` says; of many, each holds its share, and puts weights together a while."""
    recipe = load_recipe("recipes/digits/unified.toml", ["training.batch_size=4"])
    alone, simulated = rehearse(recipe, 1), memory(recipe)
    assert (alone.held, alone.peak) == (simulated.held.total, simulated.peak)
    shared = rehearse(
        load_recipe("recipes/digits/unified.toml", ["training.batch_size=4", "training.parallel=fsdp"]), 4
    )
    assert alone.held / 4 <= shared.held < 0.3 * alone.held
    assert shared.held + shared.gathered < shared.peak
    assert 0 < shared.gathered < simulated.held.params


def test_a_group_of_its_own(tmp_path):
    """A process that works with others cannot pretend to be one of others; afterwards all is as before."""

    def work():
        with together(this_rank()), pytest.raises(RunError, match="without torchrun"):
            rehearse(tiny("training.batch_size=4"), 4)

    processes(2, work, tmp_path)
    assert not torch.distributed.is_initialized()


# --- who is dealt what ------------------------------------------------------------------------------------------------


@given(st.lists(st.integers(0, 3), min_size=8, max_size=8), st.sampled_from([1, 2, 4, 8]))
@settings(derandomize=True, deadline=None, max_examples=50)
def test_hands_are_those_of_the_deal(stages, count):
    """Images of each stage and process, repeated ones included, without dealing."""
    batch = torch.tensor(stages)
    dealt = [batch[deal(batch, Rank(index, count)).draws].bincount(minlength=4).tolist() for index in range(count)]
    assert hands(batch, count, 4).T.tolist() == dealt


@pytest.mark.parametrize("overrides", [(), ("training.stage_draw=uniform",), ("training.mixed=false",)])
def test_presence_is_that_of_the_draw(overrides):
    """The chance of a stage to be in a batch agrees with batches that training draws."""
    recipe = tiny("training.batch_size=4", *overrides)
    denoiser, generator = build(recipe, "meta"), torch.Generator().manual_seed(0)
    times = 2000
    seen = torch.zeros(3)
    for _ in range(times):
        seen += torch.bincount(draw_times(recipe, denoiser, 4, generator)[0], minlength=3) > 0
    for share, chance in zip(seen.tolist(), presence(recipe, 4), strict=True):
        assert abs(share / times - chance) < 4 * math.sqrt(chance * (1 - chance) / times) + 1e-9


def test_uneven_hands_wait():
    """One process waits for none; the dearer the stages differ and the smaller the hands, the longer they wait."""
    recipe = tiny("training.batch_size=64")
    denoiser = build(recipe, "meta")
    waits = [excess(recipe, denoiser, count, [4.0, 2.0, 1.0]) / (64 / count) for count in (1, 4, 16, 64)]
    assert waits[0] == pytest.approx(0, abs=1e-9)
    assert waits == sorted(waits)
    assert waits[-1] > waits[0]


# --- how long it takes ------------------------------------------------------------------------------------------------

WIRES = Wires(4, 8, 450e9, 50e9, 3.4e-6, 14e-6)
SENT = st.builds(
    Sent, st.sampled_from(["all_reduce", "all_gather", "reduce_scatter"]), st.integers(1, 10**9), st.floats(0, 1)
)


def test_rings_by_hand():
    """What the formulas give for round numbers."""
    gather, total = Sent("all_gather", 8_000_000), Sent("all_reduce", 8_000_000)
    node = Wires(1, 8, 1e9, 1e9, 1e-6, 1e-5)
    assert node.seconds(gather) == pytest.approx(7e-3 + 7e-6)
    assert node.seconds(total) == pytest.approx(2 * node.seconds(gather))
    assert attrs.evolve(node, nodes=4).seconds(total) == pytest.approx(2 * (7e-3 + 7e-6 + 6e-3 + 2e-5))
    assert Wires(1, 1, 1e9, 1e9, 1e-6, 1e-5).seconds(total) == 0
    assert sent_by_a_process([gather, total], 4) == 8_000_000 * (0.75 + 1.5)


@given(st.lists(SENT, max_size=6), st.floats(0, 10))
@settings(derandomize=True, deadline=None, max_examples=100)
def test_a_step_takes_between_the_longer_and_both(sent, compute):
    """Communication is hidden at best by all computing, at worst by none; what is asked for last is hidden by none."""
    sent = sorted(sent, key=lambda each: each.at)
    talk = WIRES.total(sent)
    found = WIRES.finished(sent, compute)
    assert max(compute, talk) <= found * (1 + 1e-9)
    assert found <= (compute + talk) * (1 + 1e-9)
    late = [Sent(each.kind, each.size) for each in sent]
    assert WIRES.finished(late, compute) == pytest.approx(compute + talk) or any(
        each.kind == "all_gather" for each in late
    )


@pytest.fixture(scope="module")
def budgeted():
    recipe = tiny("training.batch_size=64")
    return recipe, msdk.budget(recipe)


@pytest.fixture
def planned(budgeted, rehearsal, monkeypatch):
    """Plans of one rehearsal: gradients have the same bytes for any number of processes."""
    silent = Rehearsal({0: (), 1: (), 2: ()}, (0, 1, 2), (), 0, 0, 0)

    def rehearsed(recipe, count):
        refuse_uneven(recipe.training.batch_size, recipe.training.accumulation, Rank(0, count))
        return rehearsal if count > 1 else silent

    def planned(nodes=2, gpus=4, bandwidth=50e9, of=budgeted, **options):
        recipe, budget = of
        kind = card_named("h100")
        one = estimate(budget, kind, "fp32", **options)
        return plan(recipe, budget, one, kind, wires_of(kind, nodes, gpus, bandwidth), "ddp"), one

    monkeypatch.setattr("msdk.budgeting.scaling.rehearse", rehearsed)
    return planned


def test_one_card_takes_what_the_estimate_says(planned):
    """A plan for one card is the estimate: nobody to talk to, and nobody to wait for."""
    found, one = planned(1, 1, price=2.0)
    assert found.step.hours == pytest.approx(one.hours)
    assert found.step.cost == pytest.approx(one.cost)
    assert (found.step.efficiency, found.step.communication_seconds) == (pytest.approx(1), 0)
    assert found.efficiency_of_node is None
    assert found.sweep == (found.step,)


def test_a_plan_adds_up(budgeted, planned):
    """Seconds, bytes, hours and money of a plan follow from its parts, on each number of machines of its sweep."""
    found, _ = planned(4, 4, price=2.0)
    recipe, _ = budgeted
    assert [step.nodes for step in found.sweep] == [1, 2, 4]
    assert found.sweep[-1] == found.step
    for step in found.sweep:
        assert step.seconds == pytest.approx(step.compute_seconds + step.exposed_seconds)
        assert step.exposed_seconds <= step.communication_seconds * (1 + 1e-9)
        assert step.images * step.processes == 64
        assert step.hours == pytest.approx(recipe.training.iterations * step.seconds / 3600)
        assert step.cost == pytest.approx(2 * step.processes * step.hours)
        assert step.images_per_second == pytest.approx(64 / step.seconds)
        assert 0 < step.efficiency < 1
    first = found.sweep[0]
    assert found.efficiency_of_node == pytest.approx(first.seconds / 4 / found.step.seconds)
    of_stages = sum(stage.presence * stage.bytes for stage in found.stages)
    assert found.bytes == pytest.approx(found.shared_bytes + of_stages)
    assert found.sent_bytes == pytest.approx(2 * 15 / 16 * found.bytes)
    seconds = found.shared_seconds + sum(stage.communication_seconds for stage in found.stages)
    assert found.step.communication_seconds == pytest.approx(seconds)
    assert sum(stage.images for stage in found.stages) == pytest.approx(64)


def test_better_wires_take_no_longer(planned):
    """More bandwidth between machines, or none between, is never slower; nor is a card that computes more."""
    steps = [planned(bandwidth=each)[0].step for each in (1e9, 50e9, 1e15)]
    assert all(one.seconds > two.seconds for one, two in itertools.pairwise(steps))
    faster = planned(utilisation=0.7)[0].step
    assert faster.compute_seconds == pytest.approx(steps[1].compute_seconds / 2)
    assert faster.efficiency < steps[1].efficiency


def test_one_stage_for_a_whole_batch_and_latents(tmp_path, planned):
    """Where a batch has one stage, its decoder alone communicates; latents are encoded by each for itself."""
    recipe = latent(tmp_path, "training.mixed=false", "training.batch_size=16")
    budget = msdk.budget(recipe)
    found, one = planned(1, 4, of=(recipe, budget))
    assert math.fsum(stage.presence for stage in found.stages) == pytest.approx(1)
    assert found.step.compute_seconds * 4 == pytest.approx(3600 * one.hours / recipe.training.iterations)


@pytest.mark.parametrize(
    ("nodes", "gpus", "words"),
    [
        (0, 8, "--nodes 0: must be at least 1"),
        (1, -1, "--gpus -1: must be at least 1"),
        (256, 8, "--nodes 256 with --gpus 8 are 2,048 processes: plans are made for at most 1,024"),
        (1, 3, "which cannot be cut evenly into 3 processes: set it to a multiple of 3"),
    ],
)
def test_no_plans_for_no_world(planned, nodes, gpus, words):
    """Numbers of cards that there cannot be are told with what can."""
    with pytest.raises((MsdkError, PartError), match=words):
        planned(nodes, gpus)
