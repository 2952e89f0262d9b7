"""The denoiser of a run, for strategies that look at how it changes."""

from collections.abc import Callable, Sequence
from pathlib import Path

import attrs
from torch import Tensor

from msdk.batch import Condition
from msdk.clustering.gradients import MICRO_BATCH, heeded
from msdk.datasets.base import Source
from msdk.denoiser import Denoiser
from msdk.errors import PartError
from msdk.recipe import Recipe
from msdk.runs import load_run, run_recipe
from msdk.threads import network_macs, threads_for
from msdk.training.labels import training_labels


@attrs.frozen
class RunEstimate:
    """What a run's networks say of noisy points, see `msdk.clusterings.base.Estimate`.

    Attributes:
        denoiser: With the averaged weights of the newest checkpoint.
        told: What its networks are told of some images; None where that is nothing.
        macs: Of its networks, which say how many threads they are worth.
    """

    denoiser: Denoiser
    told: Callable[[Sequence[int]], Condition] | None
    macs: float

    @property
    def edges(self) -> Sequence[float]:
        return self.denoiser.partition.edges

    def __call__(self, y: Tensor, ratios: Tensor, images: Sequence[int]) -> Tensor:
        own = self.denoiser.schedule
        times = own.t_of_ratio(ratios).clamp(own.t_min, own.t_max)
        x = (own.alpha(times)[:, None].to(y) * y).to(self.denoiser.place.dtype).unflatten(1, self.denoiser.shape)
        condition = None if self.told is None else self.told(images).to(x.device)
        with threads_for(self.macs):
            return self.denoiser(x, times, condition).flatten(1)


def run_estimate(recipe: Recipe, source: Callable[[], Source], device: str, run: Path) -> RunEstimate:
    """The denoiser of a run on the data of a recipe.

    Raises:
        RunError: The folder is no run, has no checkpoint, or one that is damaged.
        PartError: The run's networks see something else than the recipe's, or another noise than that of its schedule.
    """
    own = run_recipe(run)
    if own.shape != recipe.shape or (own.autoencoder is None) != (recipe.autoencoder is None):
        raise PartError(f"the networks of {run} see {_seen(own)}, but those of this recipe {_seen(recipe)}")
    if own.encoder_of(0).unit_range:
        raise PartError(
            f"the networks of {run} see pixels in [0, 1], where every edge has half the ratio: name another"
        )
    if not own.schedule.trainable or own.schedule.feeds != 1:
        raise PartError(
            f"the networks of {run} are trained with another noise than x_0 + ratio eps, so they have no velocity there"
        )
    denoiser = load_run(run, device=device).requires_grad_(False)
    training_labels(own, source())

    def told(images: Sequence[int]) -> Condition:
        return heeded(own, source().batch(images).condition)

    conditional = bool(own.classes) or own.encoder_of(0).info(own.shape).text > 0
    macs = network_macs(denoiser.network, denoiser.shape, MICRO_BATCH)
    return RunEstimate(denoiser, told if conditional else None, macs)


def _seen(recipe: Recipe) -> str:
    kind = "images" if recipe.autoencoder is None else "latents"
    return f"{kind} of {' x '.join(map(str, recipe.shape))}"
