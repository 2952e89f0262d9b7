"""The loss on images that never train, by stage: of the same images at the same times with the same noise each time.

Of n images, image i has in each stage the time that has (i + 1/2) / n of the stage's draws below it, so that times are
spread as the law of training times says. Its noise follows from its content and the stage. So two looks differ by the
weights alone, also those of two runs, on whatever number of processes, in batches of whatever size: but for the
rounding of networks, which in float32 changes a loss by some 1e-7 of it.
"""

import contextlib
import math

import torch
from torch import Tensor

from msdk.batch import Batch, Encoded
from msdk.distributed import Group
from msdk.objectives.base import Draw
from msdk.recipe import Recipe
from msdk.training.drawing import Feed, mixed_seed, to_range
from msdk.training.step import TrainingStep, encoded, image_losses


class Validation:
    """The held-out images of a run, and what is drawn for them.

    Args:
        recipe: Its stage edges are known.
        step: What is looked at.
        feed: Has the images, and knows which are held out.
        group: The processes of the run, which share the work; all of them call.

    Attributes:
        stages: Those with a loss: which are trained and drawn.
        images: How many are looked at, in each stage.
    """

    def __init__(self, recipe: Recipe, step: TrainingStep, feed: Feed, group: Group) -> None:
        self.recipe, self.step, self.feed, self.group = recipe, step, feed, group
        options, schedule, partition = recipe.training, step.denoiser.schedule, step.denoiser.partition
        split = feed.split
        self.rows, self.hashes = split.held[: options.validate_images], split.hashes[: options.validate_images]
        self.images = len(self.rows)
        self.shares = recipe.natural_shares(partition)
        self.stages = tuple(stage for stage, share in enumerate(self.shares) if share > 0)
        inside = (torch.arange(self.images, dtype=torch.float64) + 0.5) / max(self.images, 1)
        edges = options.noise.edges(schedule, partition)
        self.times = {
            stage: options.noise.quantile(schedule, edges[stage] + (edges[stage + 1] - edges[stage]) * inside)
            for stage in self.stages
        }
        # Forward passes alone, so what a step computes at a time is no more than fits.
        self.at_a_time = max(options.batch_size // options.accumulation // group.rank.count, 1)

    def losses(self) -> tuple[list[float], float]:
        """The mean loss of each stage, nan where it has none; and of all, as training draws them. Waits for the device.

        Leaves weights and averages as they are.
        """
        step, device = self.step, self.feed.device
        averaged = self.recipe.training.validate_weights == "ema" and step.ema is not None
        placed = step.ema.in_place() if averaged and step.ema is not None else contextlib.nullcontext()
        found = torch.zeros(len(self.shares), self.images, dtype=torch.float64, device=device)
        rank = self.group.rank
        own = list(range(rank.index, self.images, rank.count))
        # As many for each process, since weights in shards are gathered by all at once; who has too few repeats one.
        padded = own + [0] * (-(-self.images // rank.count) - len(own))
        step.trained.eval()
        try:
            with torch.no_grad(), placed:
                torch.manual_seed(0)  # of objectives that draw; a step has a seed of its own
                for start in range(0, len(padded), self.at_a_time):
                    places = padded[start : start + self.at_a_time]
                    counted = places[: max(len(own) - start, 0)]
                    batch = self._batch(places)
                    for stage in self.stages:
                        values = image_losses(
                            step.trained, self.recipe, step.denoiser, batch, self._draw(places, stage)
                        )
                        found[stage, counted] = values[: len(counted)].double()
        finally:
            step.trained.train()
        totals = self.group.total(found.cpu()).sum(1).tolist()
        means = [total / self.images if share else math.nan for total, share in zip(totals, self.shares, strict=True)]
        return means, math.fsum(self.shares[stage] * means[stage] for stage in self.stages)

    def _batch(self, places: list[int]) -> Batch:
        """Images as the network sees them, with their conditions, on the device."""
        denoiser, reads = self.step.denoiser, self.feed.reads
        batch = self.feed.reader.batch([self.rows[place] for place in places])
        moments, condition = isinstance(batch, Encoded), batch.condition
        images = batch.images.to(self.feed.device, non_blocking=True)
        images = images if moments else to_range(images, unit_range=denoiser.unit_range)
        clean = encoded(self.recipe, denoiser, images.to(denoiser.place.dtype), moments=moments)
        condition = condition._replace(
            label=condition.label if denoiser.classes else None, text=condition.text if reads else None
        )
        return Batch(clean, condition.to(self.feed.device))

    def _draw(self, places: list[int], stage: int) -> Draw:
        times = self.times[stage][places]
        weights = torch.as_tensor(self.recipe.weighting.weight(self.step.denoiser.schedule, times))
        place = self.step.denoiser.place
        noise, extra = torch.stack([self._noise(index, stage) for index in places]).to(place).tensor_split([1], dim=1)
        return Draw(
            stages=torch.full((len(places),), stage),
            times=times,
            weights=weights.expand(len(places)),
            noise=noise[:, 0],
            extra=extra if self.recipe.training.loss.extra else None,
        )

    def _noise(self, index: int, stage: int) -> Tensor:
        """That of an image, and what its objective wants beside it; drawn on the CPU, so that devices have the same."""
        generator = torch.Generator().manual_seed(mixed_seed("held out", self.hashes[index], stage))
        shape = self.step.denoiser.shape
        return torch.randn(1 + self.recipe.training.loss.extra, *shape, generator=generator)
