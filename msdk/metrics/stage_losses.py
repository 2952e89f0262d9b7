"""The loss of images in each stage, at times that are spread over it, with noise that is always the same."""

import hashlib
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Generator, Tensor

from msdk.batch import Batch
from msdk.objectives.base import Draw
from msdk.objectives.denoising_loss import DenoisingLoss

if TYPE_CHECKING:
    from msdk.denoiser import Denoiser
    from msdk.partition import Partition
    from msdk.recipe import Recipe


@torch.no_grad()
def stage_losses(
    denoiser: "Denoiser",
    recipe: "Recipe",
    real: Batch,
    hashes: Sequence[int],
    batch_size: int,
    partition: "Partition | None" = None,
) -> dict[int, float]:
    """The mean denoising loss of images, by stage: of those stages that training draws; summed in float64.

    Of n images, image i has in each stage the time that has (i + 1/2) / n of the stage's draws below it. Its noise
    follows from its content and the stage: as `training.validate_every` has it.

    Args:
        denoiser: In eval mode.
        recipe: Its law of training times and its weighting are used.
        real: Clean images as the network sees them, with their conditions, on the denoiser's device.
        hashes: Of the content of each.
        batch_size: Images at a time.
        partition: Whose stages are meant; the denoiser's own when not given.
    """
    loss, count = DenoisingLoss(), len(real.images)
    if partition is None:
        partition = denoiser.partition
        shares = recipe.natural_shares(partition)
    else:  # others than those that the recipe trains
        shares = recipe.training.noise.shares(denoiser.schedule, partition)
    found: dict[int, float] = {}
    for stage in (stage for stage, share in enumerate(shares) if share > 0):
        times, total = spread(recipe, denoiser, stage, count, partition), 0.0
        for start in range(0, count, batch_size):
            rows = slice(start, min(start + batch_size, count))
            own = drawn(recipe, denoiser, stage, times[rows], hashes[rows])
            places = torch.arange(rows.start, rows.stop, device=real.images.device)
            batch = Batch(real.images[rows], real.condition.select(places))
            total += float(loss.loss(batch, own, denoiser).double().sum())
        found[stage] = total / count
    return found


def spread(
    recipe: "Recipe", denoiser: "Denoiser", stage: int, count: int, partition: "Partition | None" = None
) -> Tensor:
    """A time of a stage for each of so many images, float64 [count], ascending: in the middle of equal parts of it."""
    law, schedule = recipe.training.noise, denoiser.schedule
    low, high = law.edges(schedule, denoiser.partition if partition is None else partition)[stage : stage + 2]
    inside = (torch.arange(count, dtype=torch.float64) + 0.5) / count
    return law.quantile(schedule, low + (high - low) * inside)


def drawn(
    recipe: "Recipe", denoiser: "Denoiser", stage: int, times: Tensor, hashes: Sequence[int], extra: int = 0
) -> Draw:
    """What images get in a stage that is looked at again and again: the same each time.

    Args:
        recipe: Its weighting is used.
        denoiser: Where it is, and of which numbers, the noise is.
        stage: The stage.
        times: Of the images, float64 [batch], see `spread`.
        hashes: Of the content of each image, which its noise follows from.
        extra: How much more noise an objective wants, see `msdk.objectives.base.Draw`.
    """
    noise = torch.stack([_noise_of(content, stage, (1 + extra, *denoiser.shape)) for content in hashes])
    first, more = noise.to(denoiser.place).tensor_split([1], dim=1)
    return Draw(
        stages=torch.full((len(hashes),), stage),
        times=times,
        weights=torch.as_tensor(recipe.weighting.weight(denoiser.schedule, times)).expand(len(hashes)),
        noise=first[:, 0],
        extra=more if extra else None,
    )


def _noise_of(content: int, stage: int, shape: Sequence[int]) -> Tensor:
    """Drawn on the CPU, so that devices have the same."""
    digest = hashlib.blake2b(repr(("held out", content, stage)).encode(), digest_size=8).digest()
    return torch.randn(tuple(shape), generator=Generator().manual_seed(int.from_bytes(digest) >> 1))
