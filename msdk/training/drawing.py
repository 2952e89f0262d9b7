"""What a training step reads and draws: a function of the run's seed and the step alone, so that runs resume.

Nothing is carried from one step to the next, each purpose has random numbers of its own, and what routes images through
stages is drawn on the CPU.
"""

import functools
import hashlib
from collections.abc import Collection, Iterable, Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float, UInt8
from torch import Generator, Tensor

from msdk.batch import Batch, Condition, Encoded
from msdk.datasets.base import Source
from msdk.denoiser import Denoiser
from msdk.distributed import Rank
from msdk.objectives.base import Draw
from msdk.recipe import Recipe, StageDraw
from msdk.runs.resuming import images_read
from msdk.training.augmentation import draw_changes
from msdk.training.dealing import Hand, deal, goes_on
from msdk.training.holding_out import hold_out
from msdk.training.labels import withheld
from msdk.training.latents import draws_latents
from msdk.training.reading import Reader


class Work(NamedTuple):
    """What a process does in a step.

    Attributes:
        batch: Its images in the range that the network wants, with their conditions, on the device of the training.
        draw: Of these images.
        hand: Which images of the whole batch they are.
        stages: int64 [batch], on the CPU: those of the whole batch, without what is left out.
    """

    batch: Batch
    draw: Draw
    hand: Hand
    stages: Tensor


class Feed:
    """What is done in each step of a run, by its number.

    Args:
        recipe: Its data and training are used.
        denoiser: Says which noise levels its stages have, and where images are to go.
        source: Of the images; its labels suit the recipe (`training_labels`).
        rank: The process that it feeds.
    """

    def __init__(self, recipe: Recipe, denoiser: Denoiser, source: Source, rank: Rank | None = None) -> None:
        self.recipe, self.denoiser, self.source, self.rank = recipe, denoiser, source, rank or Rank()
        self.device = denoiser.place.device
        info = recipe.encoder_of(0).info(recipe.shape)
        self.told, self.reads = info.augment > 0, info.text > 0
        self.still: frozenset[int] = frozenset()
        stop = recipe.training.stop
        self.gives = stop is None or stop.share == "give"
        self.split = hold_out(source, recipe.data.held_out)
        self.before: tuple[int, tuple[float, ...]] = (0, ())  # of checkpoints; a run that goes on sets it
        self.reader = Reader(source, self._indices, recipe.training, self.device)

    def __call__(self, iteration: int) -> Work:
        """The process's images of a step, with their conditions, and what is drawn for them.

        All processes draw for the whole batch, so that what an image gets does not depend on their number. torch's own
        generators are set for the step: dropout goes on where the noise ends, with other masks in each process.
        """
        options, size = self.recipe.training, self.recipe.training.batch_size
        torch.manual_seed(mixed_seed(options.seed, "noise", iteration))
        mirrored, stages, times, hand = self._drawn(iteration)
        weights = self.recipe.weighting.weight(self.denoiser.schedule, times)
        if options.importance:
            natural = self.recipe.natural_shares(self.denoiser.partition)
            importance = self.recipe.stage_draw.importance(iteration, natural)
            weights = weights * torch.tensor(importance, dtype=torch.float64)[stages]
        shape = self.denoiser.shape
        noise = torch.empty(size, *shape, device=self.device, memory_format=layout(len(shape) + 1)).normal_()
        extra, count = None, options.loss.extra
        if count:
            extra = torch.empty(size, count, *shape, device=self.device).normal_()
        if len(hand.draws) < size or self.rank.count > 1:
            drawn = hand.draws.to(self.device, non_blocking=True)
            noise = noise.index_select(0, drawn)
            extra = None if extra is None else extra.index_select(0, drawn)
            if self.rank.index:
                torch.manual_seed(mixed_seed(options.seed, "dropout", iteration, self.rank.index))
        draw = Draw(
            stages[hand.draws],
            times[hand.draws],
            weights[hand.draws],
            noise,
            posterior=self._posterior(iteration, hand),
            extra=extra,
            iteration=iteration,
            named=options.stage_draw.own is not None,
        )
        mirrored = None if mirrored is None else mirrored[hand.images]
        batch = self.reader(iteration).split([len(hand.images), max(1 - len(hand.images), 0)])[0]
        stages = stages[goes_on(stages, self._left_out)]
        return Work(self._presented(batch, mirrored, hand.images, iteration), draw, hand, stages)

    def leave_out(self, stages: Iterable[int]) -> None:
        """Trains stages no more: others are drawn in their place, or their images are left out of steps."""
        self.still |= set(stages)
        self.reader.forget()

    @property
    def _left_out(self) -> Collection[int]:
        """The stages whose images are drawn for nothing."""
        return () if self.gives else self.still

    def _posterior(self, iteration: int, hand: Hand) -> Tensor | None:
        """What draws latents from their Gaussians, where the recipe wants that: of all images, then of the hand's."""
        options = self.recipe.training
        if not draws_latents(self.recipe):
            return None
        generator = Generator(self.device).manual_seed(mixed_seed(options.seed, "posterior", iteration))
        noise = torch.randn(options.batch_size, *self.denoiser.shape, device=self.device, generator=generator)
        if self.rank.count == 1 and len(hand.images) == options.batch_size:
            return noise
        return noise.index_select(0, hand.images.to(self.device, non_blocking=True))

    def _drawn(self, iteration: int) -> tuple[Tensor | None, Tensor, Tensor, Hand]:
        """Which images of the batch are mirrored, if any; their stages and times; and the process's own of them."""
        options, size = self.recipe.training, self.recipe.training.batch_size
        generator = self._generator("draw", iteration)
        mirrored = torch.rand(size, generator=generator) < 0.5 if options.flip else None
        still = self.still if self.gives else ()
        stages, times = draw_times(self.recipe, self.denoiser, size, generator, iteration, still)
        return mirrored, stages, times, deal(stages, self.rank, options.accumulation, self._left_out)

    def _indices(self, iteration: int) -> Sequence[int]:
        """The images of the data set that the process reads in a step; asked for by threads that read ahead."""
        options, size = self.recipe.training, self.recipe.training.batch_size
        trained = self.split.trained
        first = images_read(self.recipe, self.before, iteration)
        order = [trained[place] for place in batch_indices(first, size, len(trained), options.seed)]
        turned = options.latents is not None and options.flip
        if self.rank.count == 1 and not turned and not self._left_out:
            return order
        mirrored, *_, hand = self._drawn(iteration)
        if turned and mirrored is not None:  # latents of mirrored images lie behind those of all others
            order = [each + len(self.source) * turn for each, turn in zip(order, mirrored.tolist(), strict=True)]
        return [order[position] for position in hand.images.tolist()] or order[:1]  # no source is asked for nothing

    def _presented(self, batch: Batch, mirrored: Tensor | None, positions: Tensor, iteration: int) -> Batch:
        """Images on the device, changed; their classes, some withheld; and labels of what was done to them."""
        options = self.recipe.training
        images = batch.images.to(self.device, memory_format=layout(batch.images.ndim), non_blocking=True)
        augment = None
        if not isinstance(batch, Encoded):
            if mirrored is not None:
                images = flipped(images, mirrored.to(self.device, non_blocking=True))
            images = to_range(images, unit_range=self.denoiser.unit_range)
        if options.augment:
            changes = draw_changes(options.batch_size, options.augment, self._generator("augment", iteration))
            changes = changes.select(positions)
            images = changes.apply(images)
            augment = changes.labels() if self.told else None
        label = batch.condition.label if self.denoiser.classes else None
        text = batch.condition.text if self.reads else None
        drawn = torch.rand(options.batch_size, generator=self._generator("label", iteration)) < options.label_dropout
        condition = withheld(Condition(label, augment, text), drawn[positions]).to(self.device)
        return batch._replace(images=images, condition=condition)

    def _generator(self, purpose: str, iteration: int) -> Generator:
        """Random numbers of one step for one purpose, so that none depends on whether another one is drawn."""
        return Generator().manual_seed(mixed_seed(self.recipe.training.seed, purpose, iteration))


def draw_times(
    recipe: Recipe,
    denoiser: Denoiser,
    batch: int,
    generator: Generator,
    iteration: int = 0,
    still: Collection[int] = (),
) -> tuple[Tensor, Tensor]:
    """Draws a stage for each group of a batch, int64 [batch]; then a time inside it for each image, float64 [batch].

    Where the law says so (`StageDraw.own`), some of these are of any stage.

    Draws of stages that stay `still` go to the others in the ratio of theirs: where these have none, of natural ones.
    """
    noise, schedule, partition = recipe.training.noise, denoiser.schedule, denoiser.partition
    groups, law = recipe.training.groups(batch), recipe.stage_draw
    natural = recipe.natural_shares(partition)
    shares = law.at(iteration, natural)
    if still:
        left, own = ([each * (stage not in still) for stage, each in enumerate(part)] for part in (shares, natural))
        shares = left if any(left) else own
    stages = draw_stages(law, shares, groups, generator)
    stages = stages.repeat_interleave(batch // groups)  # neighbours, so that micro-batches need few decoders
    inside = stages
    if law.own is not None:
        inside = soft_stages(stages, law.own, noise.shares(schedule, partition), generator)
    return stages, noise.draw(schedule, partition, inside, generator)


def soft_stages(stages: Tensor, own: Sequence[float], shares: Sequence[float], generator: Generator) -> Tensor:
    """The stage whose times an image has, int64 [batch]: its own one with its probability, else any by their shares."""
    weights = torch.tensor([own, shares], dtype=torch.float64)
    stays = torch.rand(len(stages), generator=generator, dtype=torch.float64) < weights[0][stages]
    return torch.where(stays, stages, torch.multinomial(weights[1], len(stages), replacement=True, generator=generator))


def draw_stages(law: StageDraw, shares: Sequence[float], groups: int, generator: Generator) -> Tensor:
    """A stage for each of so many groups, int64 [groups]; each group is of a stage with the probability of its share.

    Groups are independent, but for a stratified law: there a stage with the share p has p x groups of them, rounded up
    or down.
    """
    weights = torch.tensor(shares, dtype=torch.float64)
    if law.name != "stratified":
        return torch.multinomial(weights, groups, replacement=True, generator=generator)
    counts = strata(weights, groups, torch.rand((), generator=generator, dtype=torch.float64))
    stages = torch.arange(len(shares)).repeat_interleave(counts)
    return stages[torch.randperm(groups, generator=generator)]


def strata(shares: Tensor, groups: int, u: Tensor) -> Tensor:
    """How many of the groups each stage gets, int64 [stages]: its share of them, rounded up or down.

    Over a uniform u in [0, 1) the mean is exact: stages are cut from a line as long as there are groups, each as long
    as its share, and get the points u, u + 1, ... that lie on them (systematic sampling).
    """
    ends = groups * shares.cumsum(0) / shares.sum()
    ends = torch.where((ends - ends.round()).abs() < 1e-9, ends.round(), ends)  # thirds of three are whole
    below = ends.floor() + (u < ends.frac())
    return below.diff(prepend=below.new_zeros(1)).long()


def to_range(images: UInt8[Tensor, "batch c *axes"], *, unit_range: bool = False) -> Float[Tensor, "batch c *axes"]:
    """Pixels 0 .. 255 to [-1, 1], or to [0, 1] for networks that want that."""
    return images.float() / 255 if unit_range else images.float() / 127.5 - 1


def flipped(images: Tensor, mirrored: Tensor) -> Tensor:
    """The images, some of them mirrored left to right: bool [batch]."""
    return torch.where(mirrored.view(-1, *[1] * (images.ndim - 1)), images.flip(-1), images)


def batch_indices(first: int, batch: int, images: int, seed: int) -> Sequence[int]:
    """Which images a step reads: position `first` onwards in an endless shuffled order that only the seed decides."""
    found: list[int] = []
    while len(found) < batch:
        epoch, offset = divmod(first + len(found), images)
        found += _order(epoch, images, seed)[offset : offset + batch - len(found)].tolist()
    return found


@functools.lru_cache(maxsize=4)
def _order(epoch: int, images: int, seed: int) -> Tensor:
    """In which order an epoch reads its images."""
    return torch.randperm(images, generator=Generator().manual_seed(mixed_seed(seed, "order", epoch)))


def mixed_seed(*parts: object) -> int:
    """A 63-bit seed that depends on every part."""
    return int.from_bytes(hashlib.blake2b(repr(parts).encode(), digest_size=8).digest()) >> 1


def layout(axes: int) -> torch.memory_format:
    """How images of so many axes, batch and channels counted, lie in memory: 2-D convolutions like channels last."""
    return torch.channels_last if axes == 4 else torch.contiguous_format
