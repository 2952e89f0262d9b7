"""Promises of training on several processes: any number of them trains the same run."""

import attrs
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from processes import processes

from msdk.distributed import Rank, this_rank, together
from msdk.training.dealing import deal
from msdk.training.loop import Trainer
from recipes import tiny

STILL = "decoders=[" + ", ".join(f'{{name="ddpmpp", channels={width}, dropout=0.0}}' for width in (12, 8, 4)) + "]"
"""Dropout is the one exception."""

OBJECTIVE = ("training.objective={name='uncertainty'}", "training.stage_draw=uniform")
EVERYTHING = (
    "encoder.classes=10",
    "encoder.augment=9",
    "training.augment=0.5",
    "training.label_dropout=0.3",
    "training.flip=true",
    "training.accumulation=2",
    "training.clip_norm=0.1",
    "training.recompute=true",
)


def trained(recipe, folder, steps):
    """Weights, averages, losses by stage and stages after so many steps in float64, in this process of its group."""
    with together(this_rank()) as group:
        trainer = Trainer(recipe, folder, recipe.data.open(), [], "cpu", group)
        trainer.step.trained.double()
        trainer.step.ema.averages = [average.double() for average in trainer.step.ema.averages]
        told, feed = [], trainer.feed

        def fed(iteration):
            work = feed(iteration)
            batch = work.batch._replace(images=work.batch.images.double())
            return work._replace(batch=batch, draw=attrs.evolve(work.draw, noise=work.draw.noise.double()))

        trainer.feed = fed
        for _ in range(steps):
            work, values = trainer.advance()
            sums = torch.zeros(3, dtype=torch.float64).index_add_(0, work.draw.stages, values)
            told.append((work.stages, group.total(sums)))
        grads = {name: weight.grad for name, weight in trainer.step.trained.named_parameters()}
        return trainer.step.trained.state_dict(), trainer.step.ema.averages, told, grads


@given(
    stages=st.lists(st.integers(0, 4), min_size=1, max_size=6).flatmap(
        lambda few: st.tuples(st.just(few), st.sampled_from([1, 2, 3]), st.sampled_from([1, 2, 4]))
    )
)
@settings(max_examples=60, deadline=None)
def test_every_image_is_dealt_once(stages):
    """Ranks differ by at most one image per stage, run the same stages in each micro-batch, and read what is theirs."""
    few, parts, count = stages
    batch = torch.tensor(few * count * parts)
    hands = [deal(batch, Rank(index, count), parts) for index in range(count)]
    everyone = torch.ones(0, dtype=torch.int64)
    for hand in hands:
        counted = torch.ones(len(hand.images), dtype=torch.bool) if hand.counted is None else hand.counted
        everyone = torch.cat([everyone, hand.images[counted]])
        assert torch.equal(hand.images[counted], hand.draws[counted])
        assert set(hand.images.tolist()) == set(hand.images[counted].tolist())
        assert int(counted.sum()) == len(batch) // count
    assert sorted(everyone.tolist()) == list(range(len(batch)))
    for part in zip(*(hand.draws.split(list(hand.sizes)) for hand in hands), strict=True):
        assert len({tuple(batch[own].unique().tolist()) for own in part}) == 1
    for stage in range(5):
        own = [
            int((batch[hand.images] == stage)[slice(None) if hand.counted is None else hand.counted].sum())
            for hand in hands
        ]
        assert max(own) - min(own) <= parts


@pytest.mark.parametrize(
    "settings",
    [
        (),
        EVERYTHING,
        ("training.mixed=false",),
        ("training.objective={name='uncertainty'}", "training.stage_draw=uniform"),
    ],
    ids=["plain", "everything", "absent-stages", "objective"],
)
def test_any_number_of_processes_trains_the_same_run(tmp_path, settings):
    """In float64 2 and 4 processes get the weights, averages and losses of 1, to 1e-12 of the largest."""
    recipe = tiny(STILL, *settings, "training.warmup=0", "training.batch_size=8")
    weights, averages, told, grads = trained(recipe, tmp_path, 20)
    largest = max(float(weight.abs().max()) for weight in weights.values())
    for count in (2, 4):
        for found in processes(count, lambda: trained(recipe, tmp_path, 20), tmp_path):
            assert found is not None
            for name, weight in weights.items():
                torch.testing.assert_close(found[0][name], weight, rtol=1e-12, atol=1e-12 * largest)
            for own, average in zip(found[1], averages, strict=True):
                torch.testing.assert_close(own, average, rtol=1e-12, atol=1e-12 * largest)
            for (stages, sums), (same, own) in zip(told, found[2], strict=True):
                assert torch.equal(stages, same)
                torch.testing.assert_close(own, sums, rtol=1e-11, atol=1e-11)
            assert {name for name, grad in found[3].items() if grad is None} == {
                name for name, grad in grads.items() if grad is None
            }
