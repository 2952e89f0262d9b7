"""What a training step reads and draws: a function of the run's seed and the step alone, so that runs resume.

Nothing is carried from one step to the next, each purpose has random numbers of its own, and what routes images through
stages is drawn on the CPU.
"""

import hashlib
from collections.abc import Sequence

import torch
from jaxtyping import Float, UInt8
from torch import Generator, Tensor

from msdk.batch import Batch, Condition
from msdk.datasets.base import Source
from msdk.denoiser import Denoiser
from msdk.noise_levels.base import stage_probabilities
from msdk.objectives.base import Draw
from msdk.recipe import Recipe
from msdk.training.augmentation import draw_changes
from msdk.training.labels import withheld


class Feed:
    """Batches and draws of a run, by the number of the step.

    Args:
        recipe: Its data and training are used.
        denoiser: Says which noise levels its stages have, and where images are to go.
        source: Of the images; its labels suit the recipe (`training_labels`).
    """

    def __init__(self, recipe: Recipe, denoiser: Denoiser, source: Source) -> None:
        self.recipe, self.denoiser, self.source = recipe, denoiser, source
        self.device = denoiser.place.device
        info = recipe.encoder.info(recipe.shape)
        self.told, self.reads = info.augment > 0, info.text > 0

    def __call__(self, iteration: int) -> tuple[Batch, Draw]:
        """The images of a step in the range that the network wants, with their conditions, and what is drawn for them.

        torch's own generators are set for the step: dropout goes on where the noise ends.
        """
        options = self.recipe.training
        torch.manual_seed(mixed_seed(options.seed, "noise", iteration))
        generator = self._generator("draw", iteration)
        first = iteration * options.batch_size
        batch = self.source.batch(batch_indices(first, options.batch_size, len(self.source), options.seed))
        images = flipped(batch.images, generator) if options.flip else batch.images
        stages, times = draw_times(self.recipe, self.denoiser, options.batch_size, generator)
        batch = self._presented(batch._replace(images=images), iteration)
        noise = torch.empty(
            len(images), *self.denoiser.shape, device=self.device, memory_format=layout(len(self.denoiser.shape) + 1)
        ).normal_()
        return batch, Draw(stages, times, self.recipe.weighting.weight(self.denoiser.schedule, times), noise)

    def _presented(self, batch: Batch, iteration: int) -> Batch:
        """Images on the device, augmented; their classes, some withheld; and labels of what was done to them."""
        options = self.recipe.training
        images = batch.images.to(self.device, memory_format=layout(batch.images.ndim), non_blocking=True)
        images, augment = to_range(images, unit_range=self.denoiser.unit_range), None
        if options.augment:
            changes = draw_changes(len(images), options.augment, self._generator("augment", iteration))
            images = changes.apply(images)
            augment = changes.labels() if self.told else None
        label = batch.condition.label if self.denoiser.classes else None
        text = batch.condition.text if self.reads else None
        condition = withheld(
            Condition(label, augment, text), options.label_dropout, self._generator("label", iteration)
        )
        return Batch(images, condition.to(self.device))

    def _generator(self, purpose: str, iteration: int) -> Generator:
        """Random numbers of one step for one purpose, so that none depends on whether another one is drawn."""
        return Generator().manual_seed(mixed_seed(self.recipe.training.seed, purpose, iteration))


def draw_times(recipe: Recipe, denoiser: Denoiser, batch: int, generator: Generator) -> tuple[Tensor, Tensor]:
    """Draws a stage per image, int64 [batch], or one for all of them; then a time inside each, float64 [batch]."""
    noise, schedule, partition = recipe.training.noise, denoiser.schedule, denoiser.partition
    chances = stage_probabilities(recipe.training.stage_draw, noise.shares(schedule, partition))
    count = batch if recipe.training.mixed else 1
    weights = torch.tensor(chances, dtype=torch.float64)
    stages = torch.multinomial(weights, count, replacement=True, generator=generator).expand(batch)
    return stages, noise.draw(schedule, partition, stages, generator)


def to_range(images: UInt8[Tensor, "batch c *axes"], *, unit_range: bool = False) -> Float[Tensor, "batch c *axes"]:
    """Pixels 0 .. 255 to [-1, 1], or to [0, 1] for networks that want that."""
    return images.float() / 255 if unit_range else images.float() / 127.5 - 1


def flipped(images: Tensor, generator: Generator) -> Tensor:
    """Mirrors each image left to right with probability 1/2."""
    mirror = torch.rand(len(images), generator=generator) < 0.5
    return torch.where(mirror.view(-1, *[1] * (images.ndim - 1)), images.flip(-1), images)


def batch_indices(first: int, batch: int, images: int, seed: int) -> Sequence[int]:
    """Which images a step reads: position `first` onwards in an endless shuffled order that only the seed decides."""
    found: list[int] = []
    while len(found) < batch:
        epoch, offset = divmod(first + len(found), images)
        order = torch.randperm(images, generator=Generator().manual_seed(mixed_seed(seed, "order", epoch)))
        found += order[offset : offset + batch - len(found)].tolist()
    return found


def mixed_seed(*parts: object) -> int:
    """A 63-bit seed that depends on every part."""
    return int.from_bytes(hashlib.blake2b(repr(parts).encode(), digest_size=8).digest()) >> 1


def layout(axes: int) -> torch.memory_format:
    """How images of so many axes, batch and channels counted, lie in memory: 2-D convolutions like channels last."""
    return torch.channels_last if axes == 4 else torch.contiguous_format
