"""Laws of extractors. Options: `shape` of the images, `device`."""

import torch

from msdk.batch import Shape
from msdk.extractors.base import Extracted, Extractor, Opened
from msdk.testing.laws import COMMON, require

SHAPE = (3, 32, 32)
EXACT = 1e-5
"""By how much an image's features may differ in another batch, of the largest."""


def _pixels(shape: Shape, count: int) -> torch.Tensor:
    return torch.randint(0, 256, (count, *shape), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def _tensors(found: Extracted) -> list[torch.Tensor]:
    return [found.features, *([] if found.logits is None else [found.logits])]


def _opened(extractor: Extractor, shape: Shape) -> Opened:
    extractor.check(shape)
    return extractor.open()


def features_are_what_is_declared(extractor: Extractor, *, shape: Shape = SHAPE) -> None:
    """[images, width] and [images, classes], finite floats on the CPU, which differ between images."""
    opened = _opened(extractor, shape)
    found = opened(_pixels(shape, 3))
    require(
        tuple(found.features.shape) == (3, opened.width),
        f"features of 3 images are {tuple(found.features.shape)}, and `width` is {opened.width}",
    )
    classes = 0 if found.logits is None else found.logits.shape[1]
    require(classes == opened.classes, f"there are {classes} logits, and `classes` is {opened.classes}")
    for tensor in _tensors(found):
        require(tensor.device.type == "cpu", f"features lie on {tensor.device}, not on the CPU")
        require(tensor.dtype in (torch.float32, torch.float64), f"features are {tensor.dtype}")
        require(bool(tensor.isfinite().all()), "features of plain pixels are not finite")
    require(not torch.equal(found.features[0], found.features[1]), "two images have the same features")


def an_image_is_itself_alone(extractor: Extractor, *, shape: Shape = SHAPE) -> None:
    """Neither the batch nor an image's place in it matter."""
    opened, pixels = _opened(extractor, shape), _pixels(shape, 3)
    together, alone = opened(pixels), opened(pixels[1:2])
    for one, other in zip(_tensors(together), _tensors(alone), strict=True):
        apart = float((one[1] - other[0]).abs().max())
        require(
            apart <= EXACT * float(one.abs().max()),
            f"the features of an image differ by {apart} from those that it has alone",
        )


def it_repeats_itself(extractor: Extractor, *, shape: Shape = SHAPE) -> None:
    """Opened twice, the same pixels have the same features, and the weights the same digest."""
    pixels = _pixels(shape, 2)
    one, other = _opened(extractor, shape), _opened(extractor, shape)
    require(torch.equal(one(pixels).features, other(pixels).features), "opened twice it gives other features")
    require(len(one.digest) >= 32, f"the digest is {one.digest!r}: give the SHA-256 of what it computes with")
    require(one.digest == other.digest, "the digest is another one each time")


LAWS = (*COMMON, features_are_what_is_declared, an_image_is_itself_alone, it_repeats_itself)
