"""How pictures become squares of one size: named, since scores of two crops of one data set cannot be compared.

Each is the arithmetic of the program that it is named after, in the order in which that program crops and resizes.
"""

from collections.abc import Callable, Mapping

import numpy as np
from PIL import Image

from msdk.datasets.base import ImageError

Crop = Callable[[Image.Image, int, str], Image.Image]
"""Gives the square of so many pixels of a picture, "L" or "RGB"; its name is for messages."""


def as_is(image: Image.Image, size: int, name: str) -> Image.Image:
    """The picture itself."""
    if image.size != (size, size):
        what = f"has {image.height}x{image.width} pixels, not {size}x{size}: choose a protocol that resizes"
        raise ImageError(name, what, "another size")
    return image


def resize(image: Image.Image, size: int, name: str) -> Image.Image:
    """The whole picture, squeezed to a square, by Lanczos (EDM's dataset tool without a transform)."""
    del name
    return image if image.size == (size, size) else image.resize((size, size), Image.Resampling.LANCZOS)


def resize_bilinear(image: Image.Image, size: int, name: str) -> Image.Image:
    """The whole picture, squeezed to a square, by a triangle filter."""
    del name
    return image.resize((size, size), Image.Resampling.BILINEAR)


def center_crop(image: Image.Image, size: int, name: str) -> Image.Image:
    """The largest square in the middle, then Lanczos (EDM and EDM2, center-crop)."""
    del name
    width, height = image.size
    side = min(width, height)
    box = ((width - side) // 2, (height - side) // 2, (width + side) // 2, (height + side) // 2)
    return image.crop(box).resize((size, size), Image.Resampling.LANCZOS)


def average(image: Image.Image, size: int, name: str) -> Image.Image:
    """Means of square blocks of pixels, of two by two from 32 to 16, rounded once, half to even (ours)."""
    block = image.width // size
    if image.size != (size * block, size * block) or not block:
        what = f"has {image.height}x{image.width} pixels, which are no square blocks of {size}x{size}"
        raise ImageError(name, f"{what}: choose a protocol that crops", "another size")
    levels = np.asarray(image, dtype=np.float64).reshape(size, block, size, block, -1).mean((1, 3))
    pixels = np.rint(levels).astype(np.uint8)
    return Image.fromarray(pixels[..., 0] if image.mode == "L" else pixels)


def dhariwal(image: Image.Image, size: int, name: str) -> Image.Image:
    """Halved by a box filter while twice as large, then bicubic to the shorter side, then the middle (ADM, EDM2)."""
    del name
    while min(image.size) >= 2 * size:
        image = image.resize((image.width // 2, image.height // 2), Image.Resampling.BOX)
    scale = size / min(image.size)
    image = image.resize((round(image.width * scale), round(image.height * scale)), Image.Resampling.BICUBIC)
    left, top = (image.width - size) // 2, (image.height - size) // 2
    return image.crop((left, top, left + size, top + size))


def crop_140(image: Image.Image, size: int, name: str) -> Image.Image:
    """The middle 140 pixels, then a triangle filter on real numbers, rounded once (score_sde's CelebA)."""
    square = _middle(image, 140, name)
    levels = np.asarray(square, dtype=np.float32).reshape(140, 140, -1)
    small = [
        np.asarray(Image.fromarray(levels[..., each]).resize((size, size), Image.Resampling.BILINEAR))
        for each in range(levels.shape[2])
    ]
    pixels = np.rint(np.stack(small, axis=-1)).clip(0, 255).astype(np.uint8)
    return Image.fromarray(pixels[..., 0] if image.mode == "L" else pixels)


def crop_128(image: Image.Image, size: int, name: str) -> Image.Image:
    """128 pixels around row 121 and column 89, then a triangle filter (DDIM's CelebA)."""
    if image.width < 89 + 64 or image.height < 121 + 64:
        raise ImageError(name, f"has {image.height}x{image.width} pixels, too few for this crop", "another size")
    return image.crop((25, 57, 153, 185)).resize((size, size), Image.Resampling.BILINEAR)


def crop_108(image: Image.Image, size: int, name: str) -> Image.Image:
    """The middle 108 pixels, then a triangle filter (DCGAN's CelebA)."""
    return _middle(image, 108, name).resize((size, size), Image.Resampling.BILINEAR)


def _middle(image: Image.Image, side: int, name: str) -> Image.Image:
    left, top = (image.width - side) // 2, (image.height - side) // 2
    if min(left, top) < 0:
        what = f"has {image.height}x{image.width} pixels, of which {side}x{side} are to be cut out"
        raise ImageError(name, what, "another size")
    return image.crop((left, top, left + side, top + side))


CROPS: Mapping[str, Crop] = {
    "as-is": as_is,
    "resize": resize,
    "resize-bilinear": resize_bilinear,
    "center-crop": center_crop,
    "average": average,
    "dhariwal": dhariwal,
    "crop140": crop_140,
    "crop128": crop_128,
    "crop108": crop_108,
}
"""The second half of a protocol's name -> what it does."""
