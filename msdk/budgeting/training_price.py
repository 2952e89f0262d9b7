"""The price of training: FLOPs of a training image in each stage, and what training holds. Imports no torch itself.

All that tells of training asks here: budgets, their tables and pages, `solve`, the simulated memory and the ledger.
"""

import math
from collections.abc import Sequence

import attrs

from msdk.recipe import Recipe, Training


@attrs.frozen
class ImageFlops:
    """FLOPs that training spends on one image of a stage.

    Attributes:
        forward: Two for each exact MAC of the forward pass, as often as the objective makes it.
        backward: Gradients of features and weights: twice the forward pass (measured: 1.998 to 2.000 in every network)
            where all weights are trained. Where some are frozen, or the objective makes several passes, of which some
            may need no gradient, whatever torch's counter finds in a real one.
        recompute: What the backward pass computes a second time; 0 without `training.recompute`.
    """

    forward: int
    backward: int
    recompute: int


def is_counted(options: Training, *, frozen: bool) -> bool:
    """Whether the price of a stage needs a simulated backward pass (`counted`), or follows from its MACs alone."""
    return frozen or options.recompute or options.loss.calls != 1


def image_flops(macs: int, options: Training, *, frozen: bool, counted: tuple[int, int] | None) -> ImageFlops:
    """The price of one training image.

    Args:
        macs: Of a forward pass, exact ones: what other conventions leave out is computed all the same.
        options: Say how many passes the objective makes.
        frozen: Whether any weight of the stage is frozen.
        counted: Backward and recomputed FLOPs by `counted`; None where `is_counted` says that they are not needed.
    """
    backward, recompute = counted or (0, 0)
    calls = options.loss.calls
    return ImageFlops(2 * macs * calls, backward if frozen or calls != 1 else 4 * macs, recompute)


def counted(recipe: Recipe) -> list[tuple[int, int]]:
    """Backward and recomputed FLOPs of one image in each stage, by torch's counter in a simulated backward pass.

    Only what is asked for is recomputed: of each block, all up to the last tensor that a gradient needs.
    """
    from msdk.budgeting.backward import stage_flops
    from msdk.budgeting.trials import without_weights
    from msdk.denoiser.building import build

    denoiser = build(without_weights(recipe), "meta").train()
    return [(flops.backward, flops.recompute) for flops in stage_flops(recipe, denoiser)]


@attrs.frozen
class Flops:
    """Training FLOPs of so many images in each stage."""

    forward: tuple[float, ...]
    backward: tuple[float, ...]
    recompute: tuple[float, ...]

    @classmethod
    def of(cls, images: Sequence[float], prices: Sequence[ImageFlops]) -> "Flops":
        """Those of images by stage, at the price of each."""
        pairs = list(zip(images, prices, strict=True))
        return cls(
            tuple(count * price.forward for count, price in pairs),
            tuple(count * price.backward for count, price in pairs),
            tuple(count * price.recompute for count, price in pairs),
        )

    @property
    def by_stage(self) -> tuple[float, ...]:
        """All of them."""
        return tuple(
            first + back + again for first, back, again in zip(self.forward, self.backward, self.recompute, strict=True)
        )

    @property
    def total(self) -> float:
        """Forward, backward, and what is computed again, of all stages."""
        return math.fsum(self.forward) + math.fsum(self.backward) + math.fsum(self.recompute)


@attrs.frozen
class Held:
    """What training holds all the time, in bytes or in numbers.

    Attributes:
        params: The networks' weights, and the objective's own.
        gradients: Of those that are trained.
        optimizer: What the optimiser keeps of those: of Adam, two moments (and, in bytes, counters of steps).
        ema: The averages, each of all weights; 0 where the recipe keeps none.
        autoencoder: The frozen autoencoder.
    """

    params: int
    gradients: int
    optimizer: int
    ema: int
    autoencoder: int

    @property
    def total(self) -> int:
        return self.params + self.gradients + self.optimizer + self.ema + self.autoencoder


def held(options: Training, params: int, trained: int, *, autoencoder: int = 0, counters: int = 0) -> Held:
    """What training holds.

    Args:
        options: Say what the optimiser keeps, and which averages are kept.
        params: Of the networks and the objective, in bytes or in numbers; the result is in the same.
        trained: Of those, the ones that training changes.
        autoencoder: Of the frozen autoencoder.
        counters: Of the optimiser's counters of steps.
    """
    return Held(
        params=params,
        gradients=trained,
        optimizer=options.rule.moments * trained + counters,
        ema=params * len(options.kept_averages),
        autoencoder=autoencoder,
    )
