"""Contact sheets of a run while it trains: the same seeds each time, drawn as the recipe samples."""

import contextlib
from pathlib import Path

import attrs
import numpy as np
import torch
from jaxtyping import UInt8
from torch import Tensor

from msdk.distributed import Group
from msdk.recipe import Recipe
from msdk.runs.files import sweep, written_whole
from msdk.sampling.batches import draw
from msdk.sampling.drawing import grid, to_pixels
from msdk.sampling.settings import settings_of
from msdk.training.step import TrainingStep

FOLDER = "sheets"
"""Of a run."""


class Sheets:
    """What is drawn each time.

    Args:
        recipe: Its stage edges are known.
        step: Has the weights: the average that is sampled, or the last ones where none are kept.
        group: The processes of the run, which share the seeds; all of them call.

    Attributes:
        calls: Network calls of a sheet by stage, a guided one counted twice.
    """

    def __init__(self, recipe: Recipe, step: TrainingStep, group: Group) -> None:
        self.step, self.group = step, group
        first, count = recipe.sampling.seed, min(recipe.sampling.images, recipe.training.sample_images)
        self.settings = settings_of(recipe, seeds=range(first, first + count))
        self.calls = [0] * len(recipe.decoders)
        for call in recipe.calls():
            self.calls[call.stage] += call.evaluations * count

    def draw(self) -> UInt8[Tensor, "3 h w"]:
        """A sheet of all images, the same in all processes. Leaves weights and averages as they are."""
        step, rank, seeds = self.step, self.group.rank, list(self.settings.seeds)
        # Weights in shards are gathered by all at once: each makes as many calls, of an image that it repeats at need,
        # or of all images where a sampler makes as many as an image needs.
        count = 1 if step.sharded and self.settings.sampler.adaptive else rank.count
        places = list(range(rank.index if count > 1 else 0, len(seeds), count))
        padded = [seeds[place] for place in places] + [seeds[0]] * (-(-len(seeds) // count) - len(places))
        placed = step.ema.in_place() if step.ema is not None else contextlib.nullcontext()
        step.trained.eval()
        try:
            with placed:
                drawn = [images for _, images in draw(step.denoiser, attrs.evolve(self.settings, seeds=padded))]
        finally:
            step.trained.train()
        own = to_pixels(torch.cat(drawn))[: len(places)]
        pixels = torch.zeros(len(seeds), *own.shape[1:], dtype=torch.int32)
        pixels[places] = own.int()
        whole = pixels if count == 1 else self.group.total(pixels)
        return torch.from_numpy(np.array(grid(whole.to(torch.uint8)))).permute(2, 0, 1)


def save_sheet(run: Path, iteration: int, sheet: UInt8[Tensor, "3 h w"]) -> Path:
    """Writes `sheets/ITERATION.png` of a run folder.

    Raises:
        RunError: It cannot be written.
    """
    from PIL import Image

    path = run / FOLDER / f"{iteration:08d}.png"
    path.parent.mkdir(exist_ok=True)
    sweep(path)
    with written_whole(path) as temporary:
        Image.fromarray(sheet.permute(1, 2, 0).numpy()).save(temporary, format="png")
    return path


def kept_sheet(run: Path, iteration: int) -> UInt8[Tensor, "3 h w"] | None:
    """What `save_sheet` wrote there; None where it is gone, or is no picture any more."""
    from PIL import Image

    with (
        contextlib.suppress(OSError, ValueError, Image.DecompressionBombError),
        Image.open(run / FOLDER / f"{iteration:08d}.png") as image,
    ):
        return torch.from_numpy(np.array(image.convert("RGB"))).permute(2, 0, 1)
    return None
