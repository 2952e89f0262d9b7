"""Pixels of samples as pictures: one by one, and many in a sheet."""

from typing import TYPE_CHECKING

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

if TYPE_CHECKING:
    from PIL.Image import Image


def to_pixels(images: Float[Tensor, "images c *axes"]) -> UInt8[Tensor, "images c *axes"]:
    """[-1, 1] to 0 .. 255, rounded and clipped, as EDM writes images."""
    return (images * 127.5 + 128).clamp(0, 255).to(torch.uint8)


def picture(pixels: UInt8[Tensor, "c h w"]) -> "Image":
    """One image for Pillow."""
    from PIL import Image

    rows = pixels.permute(1, 2, 0).numpy()
    return Image.fromarray(rows[:, :, 0] if rows.shape[2] == 1 else rows)


def grid(pixels: UInt8[Tensor, "images c h w"], columns: int | None = None) -> "Image":
    """All images in rows, with a thin frame; small ones are enlarged smoothly so that a person sees them."""
    from PIL import Image

    count, _, height, width = pixels.shape
    columns = columns or max(1, round(count**0.5))
    rows = -(-count // columns)
    scale = max(1, 64 // max(height, width))
    frame = 2
    cell_h, cell_w = height * scale + frame, width * scale + frame
    sheet = Image.new("RGB", (columns * cell_w + frame, rows * cell_h + frame), (128, 128, 128))
    for index in range(count):
        cell = picture(pixels[index]).resize((width * scale, height * scale), Image.Resampling.BICUBIC)
        sheet.paste(cell, (frame + index % columns * cell_w, frame + index // columns * cell_h))
    return sheet
