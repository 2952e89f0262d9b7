"""The loss of images in each stage, at stratified times with common random numbers."""

import hashlib
from typing import TYPE_CHECKING

import torch
from torch import Generator

from msdk.batch import Batch
from msdk.objectives.base import Draw
from msdk.objectives.denoising_loss import DenoisingLoss

if TYPE_CHECKING:
    from msdk.denoiser import Denoiser
    from msdk.recipe import Recipe


@torch.no_grad()
def stage_losses(denoiser: "Denoiser", recipe: "Recipe", real: Batch, *, seed: int, batch_size: int) -> list[float]:
    """The mean denoising loss of images in each stage, in float64 over images.

    Args:
        denoiser: In eval mode.
        recipe: Its law of training times and its weighting are used.
        real: Clean images as the network sees them, with their conditions, on the denoiser's device.
        seed: Decides times and noise, beside an image's place and the stage: an image has the same of them in whichever
            batch it is, and whichever weights are judged.
        batch_size: Images at a time.
    """
    schedule, partition, loss = denoiser.schedule, denoiser.partition, DenoisingLoss()
    count = len(real.images)
    found: list[float] = []
    for stage in range(len(partition)):
        stages = torch.full((count,), stage)
        times = stratified(recipe, denoiser, stage, count, seed)
        weights = recipe.weighting.weight(schedule, times)
        total = 0.0
        for start in range(0, count, batch_size):
            rows = slice(start, min(start + batch_size, count))
            images = real.images[rows]
            noise = torch.stack(
                [
                    torch.randn(images.shape[1:], generator=_generator(seed, stage, place))
                    for place in range(rows.start, rows.stop)
                ]
            )
            own = Draw(stages[rows], times[rows], weights[rows], noise.to(images.device, images.dtype))
            chosen = torch.arange(rows.start, rows.stop)
            batch = Batch(images, real.condition.select(chosen.to(images.device)))
            total += float(loss.loss(batch, own, denoiser).double().sum())
        found.append(total / count)
    return found


def stratified(recipe: "Recipe", denoiser: "Denoiser", stage: int, count: int, seed: int) -> torch.Tensor:
    """A time of a stage for each of so many images, float64 [count]: one in each of as many equal parts of its law.

    Which image has which part is shuffled by the seed.
    """
    law, schedule = recipe.training.noise, denoiser.schedule
    low, high = law.edges(schedule, denoiser.partition)[stage : stage + 2]
    chance = _generator(seed, "times", stage)
    parts = torch.randperm(count, generator=chance).double()
    within = (parts + torch.rand(count, generator=chance, dtype=torch.float64)) / count
    return law.quantile(schedule, low + (high - low) * within)


def _generator(*parts: object) -> Generator:
    digest = hashlib.blake2b(repr(parts).encode(), digest_size=8).digest()
    return Generator().manual_seed(int.from_bytes(digest) >> 1)
