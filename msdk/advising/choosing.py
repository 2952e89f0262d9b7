"""The choice itself: fitted curves and prices in, widths and what they save out. Pure NumPy.

A stage's loss is a curve of the FLOPs that are spent on its own images. Of a budget each stage gets what its share of
the images costs with the widths in question, so widths compete: a wide stage leaves fewer iterations for all.
"""

import itertools
from collections.abc import Sequence

import attrs
import numpy as np
from numpy.typing import NDArray

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
    unified: Sequence[Option], stages: Sequence[StageOptions], budget: float, drift: Numbers | float = 0.0
) -> Choice:
    """The best unified network and the best widths of stages for a budget, by the means; the rest is told of both.

    Args:
        unified: Networks of one stage.
        stages: What each stage may be.
        budget: Training FLOPs.
        drift: By how much the staged network's loss leaves what laws say of it and the unified one, for each doubling
            of what is spent from where these were fitted; of the mean and of each resample: [curves]. It counts for the
            ratio alone, as it is of the difference of the two.
    """
    one = min(unified, key=lambda each: float(each.curve(budget)[0]))
    combinations = list(itertools.product(*(each.options for each in stages)))
    best = min(combinations, key=lambda each: float(staged_loss(stages, each, budget)[0]))
    target = one.curve(budget)
    spent = _until(stages, best, target, budget, drift, one.curve.doublings(budget))
    return Choice(
        unified=one,
        widths=tuple(each.width for each in best),
        unified_images=budget / one.flops_per_image,
        staged_images=budget / _per_image(stages, best),
        unified_loss=target,
        staged_loss=staged_loss(stages, best, budget),
        ratio=spent / budget,
    )


def staged_loss(stages: Sequence[StageOptions], chosen: Sequence[Option], budget: Numbers | float) -> Numbers:
    """The loss of a staged network for a budget: [curves].

    Args:
        stages: The shares.
        chosen: An option of each.
        budget: Training FLOPs, the same for all curves or for each.
    """
    parts = [
        stage.weight * option.curve(spent)
        for stage, option, spent in zip(stages, chosen, _by_stage(stages, chosen, budget), strict=True)
        if stage.weight > 0
    ]
    return np.sum(parts, axis=0)


def _by_stage(stages: Sequence[StageOptions], chosen: Sequence[Option], budget: Numbers | float) -> list[Numbers]:
    """What of a budget is spent on each stage."""
    images = np.asarray(budget, dtype=np.float64) / _per_image(stages, chosen)
    return [images * stage.drawn * option.flops_per_image for stage, option in zip(stages, chosen, strict=True)]


def _per_image(stages: Sequence[StageOptions], chosen: Sequence[Option]) -> float:
    return sum(stage.drawn * option.flops_per_image for stage, option in zip(stages, chosen, strict=True))


def _until(
    stages: Sequence[StageOptions],
    chosen: Sequence[Option],
    target: Numbers,
    budget: float,
    drift: Numbers | float,
    least: float,
) -> Numbers:
    """What is spent until a loss is there for the first time: on a grid, and between its points by halving.

    Args:
        stages: The shares.
        chosen: An option of each.
        target: The loss: [curves].
        budget: Training FLOPs.
        drift: See `choose`.
        least: Doublings that count at least: those of what the target is told by.
    """

    def there(spent: Numbers) -> NDArray[np.bool_]:
        doublings = [
            np.asarray(option.curve.doublings(own))
            for stage, option, own in zip(stages, chosen, _by_stage(stages, chosen, spent), strict=True)
            if stage.weight > 0
        ]
        return staged_loss(stages, chosen, spent) + drift * np.maximum(np.max(doublings, axis=0), least) <= target

    grid = np.geomspace(budget / WIDEST, budget * WIDEST, 600)
    seen = np.array([there(np.full(len(target), each)) for each in grid])
    first = seen.argmax(0)
    low, high = np.log(grid[np.maximum(first - 1, 0)]), np.log(grid[first])
    for _ in range(40):
        middle = (low + high) / 2
        reached = there(np.exp(middle))
        low, high = np.where(reached, low, middle), np.where(reached, middle, high)
    return np.where(seen.any(0), np.exp(high), np.inf)
