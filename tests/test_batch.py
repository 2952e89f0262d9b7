"""Batch and Condition: one value that is split, selected and doubled whole, whatever it holds."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import msdk
from msdk.batch import Batch, Condition, Text
from msdk.datasets.base import Source

COUNT = 5


@st.composite
def conditions(draw):
    """A condition of five images that holds any of label, augmentation labels and text."""
    label = draw(
        st.sampled_from([None, torch.arange(COUNT), torch.eye(COUNT)]),
    )
    augment = draw(st.sampled_from([None, torch.rand(COUNT, 9)]))
    text = Text(torch.rand(COUNT, 3, 2), torch.rand(COUNT, 3) > 0.5)
    return Condition(label, augment, draw(st.sampled_from([None, text])))


def tensors(condition):
    """All tensors inside."""
    return [value for value in (condition.label, condition.augment, *(condition.text or ())) if value is not None]


@given(conditions(), st.permutations(range(COUNT)))
def test_select_takes_every_part_alike(condition, order):
    """Entry k of what is selected is entry order[k] of every tensor, and nothing appears or is lost."""
    found = condition.select(torch.tensor(order))
    assert [value[k].tolist() for value in tensors(found) for k in range(COUNT)] == [
        value[k].tolist() for value in tensors(condition) for k in order
    ]
    assert found.inputs().keys() == condition.inputs().keys()


@given(conditions(), st.integers(1, COUNT - 1))
def test_split_and_beside_undo_each_other(condition, first):
    """The parts of a batch, one behind the other, are the batch; a condition of nothing splits too."""
    one, two = condition.split([first, COUNT - first])
    assert all(torch.equal(a, b) for a, b in zip(tensors(one.beside(two)), tensors(condition), strict=True))


@given(conditions())
def test_without_keeps_what_guidance_does_not_withhold(condition):
    """No class, no token that counts, the same augmentation; shapes and types stay, so halves make one batch."""
    found = condition.without()
    assert [(v.shape, v.dtype) for v in tensors(found)] == [(v.shape, v.dtype) for v in tensors(condition)]
    assert found.augment is condition.augment
    assert found.label is None or not (found.label > 0).any()
    assert found.text is None or not found.text.mask.any()


def test_a_batch_splits_with_its_conditions():
    """Micro-batches carry their own labels; a batch without any condition splits as well."""
    batch = Batch(torch.arange(4), Condition(torch.tensor([3, 2, 1, 0])))
    assert [(b.images.tolist(), b.condition.label.tolist()) for b in batch.split(2)] == [
        ([0, 1], [3, 2]),
        ([2, 3], [1, 0]),
    ]
    assert [len(piece.images) for piece in Batch(torch.arange(5)).split(2)] == [2, 2, 1]


class Old(Source):
    """A source as plugins wrote it for msdk 0.1: it reads images alone."""

    digest, labels = "0" * 64, (5, 6, 7)

    def __len__(self):
        return 3

    def read(self, indices):
        return torch.tensor(indices, dtype=torch.uint8).view(-1, 1, 1, 1)


def test_sources_of_before_get_their_labels():
    """What reads images alone still trains a conditional model."""
    images, condition = Old().batch([2, 0])
    assert images.flatten().tolist() == [2, 0]
    assert condition.label.tolist() == [7, 5]


def test_a_denoiser_takes_a_condition_as_it_takes_labels():
    """`label=` is the short way to say a condition, for one stage and for a mixed batch."""
    recipe = msdk.load_recipe("recipes/digits/conditional.toml", ["training.iterations=1"])
    denoiser = msdk.build(recipe, partition=recipe.partition() if not recipe.clustered else msdk.Partition((0.1, 1.0)))
    denoiser = denoiser.eval()
    with torch.no_grad():
        for parameter in denoiser.parameters():
            parameter.normal_(std=0.1)
        x, label = torch.randn(4, 1, 8, 8), torch.tensor([1, -1, 3, 9])
        for t in (0.5, torch.tensor([0.01, 0.5, 0.9, 0.2])):
            short = denoiser(x, t, label)
            assert torch.equal(short, denoiser(x, t, Condition(label)))
            assert not torch.equal(short, denoiser(x, t, Condition(label).without()))


def test_text_reaches_an_encoder_that_takes_it():
    """What an encoder is fed beside images and noise levels are the names that its condition has, and no others."""
    text = Text(torch.zeros(2, 3, 4), torch.ones(2, 3, dtype=torch.bool))
    assert set(Condition(text=text).inputs()) == {"text"}
    assert Condition().inputs() == {}
    with pytest.raises(TypeError):
        (lambda x, c_noise, label=None, augment=None: None)(0, 0, **Condition(text=text).inputs())
