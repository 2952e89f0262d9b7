"""The choice itself: fitted curves and prices in, widths and what they save out. Pure NumPy.

A stage's loss is a curve of the FLOPs that are spent on its own images. Of a budget each stage gets what its share of
the images costs with the widths in question, so widths compete: a wide stage leaves fewer iterations for all.
"""

import itertools
from collections.abc import Sequence

import attrs
import numpy as np

from msdk.advising.fitting import Numbers, PowerLaw

WIDEST = 1e3
"""A budget is looked for between a thousandth and a thousand times that which was given."""


@attrs.frozen(eq=False)
class Option:
    """A width of a network, or of a stage of it.

    Attributes:
        width: Channels.
        flops_per_image: Training on one image there, forward and backward, the encoder's part too.
        curve: Loss against the FLOPs spent there.
    """

    width: int
    flops_per_image: float
    curve: PowerLaw


@attrs.frozen(eq=False)
class StageOptions:
    """What a stage may be.

    Attributes:
        drawn: Its share of the images that training draws.
        weight: Its share of the loss.
        options: By width.
    """

    drawn: float
    weight: float
    options: tuple[Option, ...]


@attrs.frozen(eq=False)
class Choice:
    """What is best for a budget.

    Attributes:
        unified: The best network of one stage.
        widths: The best width of each stage.
        unified_images: Images that each trains on for the budget.
        staged_images: Likewise.
        unified_loss: What they reach, of the mean and of each resample: [curves].
        staged_loss: Likewise.
        ratio: What the staged network spends until it has the unified one's loss, over the budget; infinite where it
            never has: [curves].
    """

    unified: Option
    widths: tuple[int, ...]
    unified_images: float
    staged_images: float
    unified_loss: Numbers
    staged_loss: Numbers
    ratio: Numbers


def choose(
    unified: Sequence[Option], stages: Sequence[StageOptions], budget: float, errors: Numbers | float = 0.0
) -> Choice:
    """The best unified network and the best widths of stages for a budget, by the means; the rest is told of both.

    Args:
        unified: Networks of one stage.
        stages: What each stage may be.
        budget: Training FLOPs.
        errors: What the staged network's loss is above what its laws say, of the mean and of each resample: [curves].
    """
    one = min(unified, key=lambda each: float(each.curve(budget)[0]))
    combinations = list(itertools.product(*(each.options for each in stages)))
    best = min(combinations, key=lambda each: float(staged_loss(stages, each, budget)[0]))
    target = one.curve(budget)
    return Choice(
        unified=one,
        widths=tuple(each.width for each in best),
        unified_images=budget / one.flops_per_image,
        staged_images=budget / _per_image(stages, best),
        unified_loss=target,
        staged_loss=staged_loss(stages, best, budget) + errors,
        ratio=_until(stages, best, target - errors, budget) / budget,
    )


def staged_loss(stages: Sequence[StageOptions], chosen: Sequence[Option], budget: Numbers | float) -> Numbers:
    """The loss of a staged network for a budget: [curves].

    Args:
        stages: The shares.
        chosen: An option of each.
        budget: Training FLOPs, the same for all curves or for each.
    """
    images = np.asarray(budget, dtype=np.float64) / _per_image(stages, chosen)
    parts = [
        stage.weight * option.curve(images * stage.drawn * option.flops_per_image)
        for stage, option in zip(stages, chosen, strict=True)
        if stage.weight > 0
    ]
    return np.sum(parts, axis=0)


def _per_image(stages: Sequence[StageOptions], chosen: Sequence[Option]) -> float:
    return sum(stage.drawn * option.flops_per_image for stage, option in zip(stages, chosen, strict=True))


def _until(stages: Sequence[StageOptions], chosen: Sequence[Option], target: Numbers, budget: float) -> Numbers:
    """What is spent until a loss is there, by halving an interval of the logarithm: losses never rise."""
    low, high = np.full(len(target), np.log(budget / WIDEST)), np.full(len(target), np.log(budget * WIDEST))
    never = staged_loss(stages, chosen, np.exp(high)) > target
    for _ in range(48):
        middle = (low + high) / 2
        there = staged_loss(stages, chosen, np.exp(middle)) <= target
        low, high = np.where(there, low, middle), np.where(there, middle, high)
    return np.where(never, np.inf, np.exp(high))
