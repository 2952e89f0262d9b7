"""Laws of data sets. A test passes one whose data are there."""

import torch

from msdk.datasets.base import Dataset
from msdk.testing.laws import COMMON, require


def images_are_what_is_declared(dataset: Dataset) -> None:
    """uint8 [n, channels, *axes] of the declared shape, on the CPU, and a condition for each."""
    source = dataset.open()
    require(len(source) > 0, "it has no images")
    images, condition = source.batch(range(min(len(source), 5)))
    told = [value for value in (condition.label, condition.augment) if value is not None]
    require(all(len(value) == len(images) for value in told), "there is not one condition for each image")
    require(images.dtype == torch.uint8, f"images are {images.dtype}, not uint8")
    require(images.device.type == "cpu", f"images lie on {images.device}, not on the CPU")
    require(
        tuple(images.shape[1:]) == dataset.shape,
        f"images are {tuple(images.shape[1:])}, and `shape` is {dataset.shape}",
    )


def any_order_reads_the_same(dataset: Dataset) -> None:
    """Image i is image i, alone or in a batch, twice or backwards."""
    source = dataset.open()
    last = len(source) - 1
    indices = [last, 0, last // 2, 0]
    together = source.batch(indices).images
    for place, index in enumerate(indices):
        require(
            torch.equal(source.batch([index]).images[0], together[place]), f"image {index} is another one in a batch"
        )


def the_digest_is_that_of_the_data(dataset: Dataset) -> None:
    """Opened twice it is the same; it is a name for lock files."""
    one, other = dataset.open().digest, dataset.open().digest
    require(len(one) >= 32, f"the digest is {one!r}: give a SHA-256 in hexadecimal")
    require(one == other, "the digest is another one each time")


def labels_are_classes(dataset: Dataset) -> None:
    """One whole number from 0 per image, or None."""
    source = dataset.open()
    if source.labels is None:
        return
    labels = list(source.labels)
    require(len(labels) == len(source), f"there are {len(labels)} labels for {len(source)} images")
    require(all(type(label) is int and label >= 0 for label in labels), "labels are to be whole numbers from 0")


def names_are_of_classes(dataset: Dataset) -> None:
    """Names of classes are texts, each another one, and there is one for every class."""
    source = dataset.open()
    if source.class_names is None:
        return
    names = list(source.class_names)
    require(all(type(name) is str for name in names), "names of classes are to be text")
    require(len(set(names)) == len(names), "two classes have one name")
    needed = max(source.labels or (), default=-1) + 1
    require(len(names) >= needed, f"there are {len(names)} names, but classes up to {needed - 1}")


def looking_finds_what_opening_does(dataset: Dataset) -> None:
    """`look` gives the source that `open` gives, and finds no problem where that finds none."""
    opened, looked = dataset.open(), dataset.look()
    require(not looked.problems, f"`look` tells problems that `open` does not: {list(looked.problems)}")
    require(looked.digest == opened.digest, "`look` gives other data than `open`")


LAWS = (
    *COMMON,
    images_are_what_is_declared,
    any_order_reads_the_same,
    the_digest_is_that_of_the_data,
    labels_are_classes,
    names_are_of_classes,
    looking_finds_what_opening_does,
)
