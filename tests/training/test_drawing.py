"""Promises of what a step draws: it follows from the seed and the step alone."""

import attrs
import pytest
import torch

from msdk.denoiser.building import build
from msdk.training.drawing import Feed, batch_indices, draw_times
from recipes import latent, tiny

EVERYTHING = (
    "encoder.classes=10",
    "encoder.augment=9",
    "training.augment=0.5",
    "training.label_dropout=0.3",
    "training.flip=true",
)


def tensors(fed):
    """All tensors of a batch and its draw."""
    batch, draw, *_ = fed
    given = (batch.images, *batch.condition.inputs().values())
    return [*given, draw.stages, draw.times, draw.weights, draw.noise]


def test_a_step_is_drawn_from_its_number(tmp_path):
    """The fifth step is the same whatever was drawn before it, and another one than the sixth."""
    for recipe in (tiny(*EVERYTHING), latent(tmp_path)):
        denoiser, source = build(recipe), recipe.data.open()
        with torch.random.fork_rng():
            feed = Feed(recipe, denoiser, source)
            feed(0)
            torch.rand(7)
            ours, dropout = tensors(feed(5)), torch.rand(3)
            again, same = tensors(Feed(recipe, denoiser, source)(5)), torch.rand(3)
            other = tensors(feed(6))
        assert all(torch.equal(one, two) for one, two in zip(ours, again, strict=True))
        assert torch.equal(dropout, same)
        assert not torch.equal(ours[0], other[0])
        assert not torch.equal(ours[-1], other[-1])


def test_one_purpose_does_not_depend_on_another():
    """With classes, augmentation or mirrored images the same images, noise and stages are drawn as without."""
    plain, more = tiny(), tiny("encoder.classes=10", "training.label_dropout=0.3", "training.augment=0.5")
    with torch.random.fork_rng():
        one, two = (Feed(recipe, build(recipe), recipe.data.open())(3) for recipe in (plain, more))
    assert torch.equal(one.draw.noise, two.draw.noise)
    assert torch.equal(one.draw.times, two.draw.times)
    assert two.batch.condition.label is not None
    assert two.batch.condition.augment is None  # the encoder takes none


def test_weights_are_those_of_the_recipe():
    """Of each time, by the recipe's weighting."""
    recipe = tiny('weighting={name="edm"}')
    denoiser = build(recipe)
    with torch.random.fork_rng():
        _, draw, *_ = Feed(recipe, denoiser, recipe.data.open())(0)
    expected = [recipe.weighting.weight(recipe.schedule, t) for t in draw.times.tolist()]
    assert draw.weights.tolist() == pytest.approx(expected, rel=1e-12)


def test_one_stage_per_batch():
    """`mixed = false` draws one stage for the whole batch, as the paper's code does; true mixes them."""
    recipe = tiny("training.stage_draw=uniform")
    denoiser, generator = build(recipe, "meta"), torch.Generator().manual_seed(0)
    assert len(draw_times(recipe, denoiser, 256, generator)[0].unique()) == 3
    alone = attrs.evolve(recipe, training=attrs.evolve(recipe.training, mixed=False))
    stages, times = draw_times(alone, denoiser, 256, generator)
    assert len(stages.unique()) == 1
    assert torch.equal(denoiser.partition.of(denoiser.schedule.ratio(times)), stages)


def test_every_image_is_read_once_an_epoch():
    """The endless order is a fresh permutation per epoch, whatever the batch size, and a position gives its images."""
    seen = [index for first in range(0, 20, 4) for index in batch_indices(first, 4, 10, seed=5)]
    assert sorted(seen[:10]) == sorted(seen[10:]) == list(range(10))
    assert seen[:10] != seen[10:]
    assert batch_indices(7, 6, 10, seed=5) == seen[7:13]
