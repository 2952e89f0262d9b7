"""The loss on images that never train, by stage: of the same images at the same times with the same noise each time.

Times and noise are those of the metric `denoising-loss` (`msdk.metrics.stage_losses`). So two looks differ by the
weights alone, also those of two runs, on whatever number of processes, in batches of whatever size: but for the
rounding of networks, which in float32 changes a loss by some 1e-7 of it.
"""

import contextlib
import math

import torch

from msdk.batch import Batch, Encoded
from msdk.denoiser import Denoiser
from msdk.distributed import Group
from msdk.metrics.stage_losses import drawn, spread
from msdk.objectives.base import Draw
from msdk.recipe import Recipe
from msdk.training.drawing import Feed, to_range
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
        options = recipe.training
        split = feed.split
        self.rows, self.hashes = split.held[: options.validate_images], split.hashes[: options.validate_images]
        self.images = len(self.rows)
        self.shares = recipe.natural_shares(step.denoiser.partition)
        self.stages = tuple(stage for stage, share in enumerate(self.shares) if share > 0)
        self.times = {stage: spread(recipe, step.denoiser, stage, self.images) for stage in self.stages}
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
        read = self.feed.reader.batch([self.rows[place] for place in places])
        return shown(self.recipe, self.step.denoiser, read, self.feed.device)

    def _draw(self, places: list[int], stage: int) -> Draw:
        hashes = [self.hashes[place] for place in places]
        extra = self.recipe.training.loss.extra
        return drawn(self.recipe, self.step.denoiser, stage, self.times[stage][places], hashes, extra)


def shown(recipe: Recipe, denoiser: Denoiser, read: Batch, device: str | torch.device) -> Batch:
    """Images of a data set as the network sees them, with those of their conditions that it knows.

    Args:
        recipe: Of the denoiser.
        denoiser: With its autoencoder.
        read: Of the recipe's data: pixels, or what an autoencoder made of them before.
        device: That of the denoiser.
    """
    moments, condition = isinstance(read, Encoded), read.condition
    images = read.images.to(device, non_blocking=True)
    images = images if moments else to_range(images, unit_range=denoiser.unit_range)
    clean = encoded(recipe, denoiser, images.to(denoiser.place.dtype), moments=moments)
    knows = recipe.encoder_of(0).info(recipe.shape)
    condition = condition._replace(
        label=condition.label if denoiser.classes else None, text=condition.text if knows.text > 0 else None
    )
    return Batch(clean, condition.to(device))
