"""Sampling: from seeds to images, by the loop of `msdk.samplers.base`."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float, Int, UInt8
from torch import Generator, Tensor

from msdk.building import pick_device
from msdk.checkpoint import load_run
from msdk.denoiser import Denoiser
from msdk.errors import PartError, RunError
from msdk.guidance import Guidance
from msdk.recipe import Recipe
from msdk.samplers.base import Denoise, Sampler, run
from msdk.writing import written_whole

if TYPE_CHECKING:
    from PIL.Image import Image


class SeededNoise:
    """Standard normal noise for a batch whose images have a generator each, so that an image depends on its seed alone.

    Args:
        seeds: One per image.
    """

    def __init__(self, seeds: Sequence[int]) -> None:
        self._generators = [Generator().manual_seed(seed) for seed in seeds]  # on the CPU: the same on every device

    def __call__(
        self, like: Float[Tensor, "batch c h w"], t: float = 0.0, s: float = 0.0
    ) -> Float[Tensor, "batch c h w"]:
        draws = [torch.randn(like.shape[1:], generator=generator) for generator in self._generators]
        return torch.stack(draws).to(like.device, like.dtype)


@torch.no_grad()
def sample(
    denoiser: Denoiser,
    sampler: Sampler,
    steps: int,
    seeds: Sequence[int],
    *,
    batch_size: int = 64,
    label: int | Sequence[int] | Tensor | None = None,
    guidance: float = 1.0,
    guidance_interval: tuple[float, float] | None = None,
    decode: bool = True,
    progress: Callable[[int, int], None] | None = None,
) -> Float[Tensor, "images c h w"]:
    """Draws one image per seed.

    Args:
        denoiser: In eval mode, on the device to use.
        sampler: How to go from noise to an image.
        steps: Intervals of its time grid.
        seeds: One per image; an image depends on its seed, not on the batch it is in.
        batch_size: Images per network call, twice as many where it is guided.
        label: Class numbers, one for all images or int64 [images]; -1 is no class. When not given, a class-conditional
            denoiser draws class `seed % classes`.
        guidance: Weight of classifier-free guidance, see `msdk.guidance`; 1 is the plain conditional estimate.
        guidance_interval: Guided where low < ratio <= high; everywhere when not given.
        decode: Whether latents become images; false returns what the network sees.
        progress: Told (intervals done, intervals in all).

    Returns:
        Images, on the CPU, nominally in [-1, 1].

    Raises:
        PartError: A label that the denoiser does not know, or guidance without classes.
    """
    weight = next(denoiser.parameters())
    device = weight.device
    guide = Guidance(weight=guidance, interval=guidance_interval)
    labels = class_labels(denoiser.classes, seeds, label)
    if labels is None and guidance != 1:
        raise PartError("guidance needs a class-conditional denoiser, but this one has no classes: leave guidance at 1")
    sampler.check(denoiser.schedule, steps)
    times = sampler.times(denoiser.schedule, steps)
    batch_size = 1 if sampler.adaptive else batch_size  # steps that suit one image must not depend on others
    chunks = [list(seeds[start : start + batch_size]) for start in range(0, len(seeds), batch_size)]
    total = len(chunks) * (len(times) - 1)

    def advance(batches: int) -> Callable[[int], None] | None:
        before = batches * (len(times) - 1)
        return None if progress is None else lambda steps, tell=progress: tell(before + steps, total)

    images: list[Tensor] = []
    for index, chunk in enumerate(chunks):
        noise = SeededNoise(chunk)
        denoise: Denoise = denoiser
        if labels is not None:
            own = labels[index * batch_size : index * batch_size + len(chunk)].to(device)
            denoise = guide.around(denoiser, denoiser.schedule, own)
        x = denoiser.schedule.prior_std * noise(
            torch.empty(len(chunk), *denoiser.shape, device=device, dtype=weight.dtype)
        )
        x = run(sampler, denoise, denoiser.schedule, times, x, noise, advance(index))
        if decode:
            x = denoiser.decode(x)
            x = 2 * x - 1 if denoiser.unit_range else x
        images.append(x.cpu())
    return torch.cat(images)


def class_labels(
    classes: int, seeds: Sequence[int], label: int | Sequence[int] | Tensor | None
) -> Int[Tensor, " images"] | None:
    """The class of each image on the CPU, or None for a denoiser without classes.

    Raises:
        PartError: Labels for a denoiser without classes, another number of them than images, or unknown ones.
    """
    if not classes:
        if label is not None:
            raise PartError("this denoiser takes no class labels: leave `label` out, or set the encoder's `classes`")
        return None
    if label is None:
        return torch.tensor([seed % classes for seed in seeds])
    found = torch.as_tensor(label).cpu()
    if found.is_floating_point() or found.is_complex() or found.dtype == torch.bool:
        raise PartError(f"class labels are whole numbers, got {found.dtype}")
    if found.ndim and found.shape != (len(seeds),):
        raise PartError(f"label is one class, or one for each of {len(seeds)} images, got {tuple(found.shape)}")
    found = found.long().expand(len(seeds))
    unknown = sorted({int(number) for number in found if not -1 <= number < classes})
    if unknown:
        raise PartError(f"there is no class {unknown[0]}: use 0 .. {classes - 1}, or -1 for no class")
    return found


def write_samples(
    place: Path,
    recipe: Recipe,
    *,
    seeds: Sequence[int] | None = None,
    out: Path | None = None,
    device: str | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Path:
    """Draws the recipe's images from a run and writes `grid.png` and one PNG per seed; returns the folder.

    Args:
        place: The run folder.
        recipe: Its sampler and sampling are used.
        seeds: One per image; the recipe's when not given.
        out: Where to; `samples` in the run folder when not given.
        device: Where to sample.
        progress: Told (intervals done, intervals in all).
    """
    options = recipe.sampling
    seeds = range(options.seed, options.seed + options.images) if seeds is None else seeds
    denoiser = load_run(place, device=pick_device(device))
    images = sample(
        denoiser,
        recipe.sampler,
        recipe.steps,
        seeds,
        batch_size=options.batch_size,
        label=options.label,
        guidance=options.guidance,
        guidance_interval=options.guidance_interval,
        progress=progress,
    )
    pixels = to_pixels(images)
    out = out or place / "samples"
    refuse_other_folder(out)
    out.parent.mkdir(parents=True, exist_ok=True)
    with written_whole(out) as temporary:
        temporary.mkdir()
        grid(pixels[:256]).save(temporary / "grid.png")
        for seed, image in zip(seeds, pixels, strict=True):
            picture(image).save(temporary / f"{seed:06d}.png")
    return out


def refuse_other_folder(path: Path) -> None:
    """Raises `RunError` where writing samples would replace something else than samples."""
    if path.exists() and not (path.is_dir() and all(file.suffix == ".png" for file in path.iterdir())):
        raise RunError(f"{path} holds other things than samples, so it is not replaced: choose another --out")


def to_pixels(images: Float[Tensor, "images c h w"]) -> UInt8[Tensor, "images c h w"]:
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
