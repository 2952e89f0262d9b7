"""The classes of training images: checked before training starts, withheld at random while it runs."""

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from msdk.batch import Condition, Text
from msdk.datasets.base import Source
from msdk.errors import DataError
from msdk.recipe import Recipe
from msdk.recipe.structuring import to_data


def training_labels(recipe: Recipe, source: Source) -> Int[Tensor, " images"] | None:
    """The class of every image of the data, on the CPU; None for a model without classes, which uses none.

    Raises:
        DataError: The data has no labels, or one that is no class of the encoder.
    """
    classes = recipe.classes
    if not classes:
        return None
    data = to_data(recipe.data)
    named = " ".join(str(data[key]) for key in ("name", "path") if key in data)
    if source.labels is None:
        why = f" ({source.unlabelled})" if source.unlabelled else ""
        raise DataError(
            f"the data set {named} has no class labels{why}, but encoder.classes is {classes}: give a folder one "
            "sub-folder per class, or a zip file a dataset.json, or set encoder.classes to 0"
        )
    labels = torch.tensor(source.labels, dtype=torch.int64)
    wrong = ((labels < 0) | (labels >= classes)).nonzero().squeeze(1)
    if len(wrong):
        first, needed = int(wrong[0]), int(labels.max()) + 1
        fix = f"set encoder.classes to {needed}" if needed > classes and labels.min() >= 0 else "correct the labels"
        raise DataError(
            f"image {first} of the data set {named} has class {int(labels[first])}, but the classes are 0 .. "
            f"{classes - 1} ({len(wrong)} such images): {fix}"
        )
    return labels


def withheld(condition: Condition, drawn: Bool[Tensor, " batch"]) -> Condition:
    """The condition of a batch without class and text of the images that were drawn; on the CPU.

    Source: Ho and Salimans 2022, arXiv 2207.12598, Algorithm 1.
    """
    without = condition.without()

    def either(one: Tensor, other: Tensor) -> Tensor:
        return torch.where(drawn.view(-1, *[1] * (one.ndim - 1)), one, other)

    label, text = condition.label, condition.text
    if label is not None and without.label is not None:
        label = either(without.label, label)
    if text is not None and without.text is not None:
        text = Text(either(without.text.embeddings, text.embeddings), either(without.text.mask, text.mask))
    return condition._replace(label=label, text=text)
