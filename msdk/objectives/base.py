"""What training minimises: the loss of an image, and what is learned for it beside the network.

A loss is computed from clean images, what they are conditioned on, and a draw: times, noise and weights. All chance is
in the draw, so that the same step of a run has the same loss, whoever computes it.
"""

import abc
from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar, Protocol

import attrs

from msdk.errors import PartError

if TYPE_CHECKING:
    from torch import Tensor

    from msdk.batch import Batch
    from msdk.denoiser import Denoiser
    from msdk.recipe import Recipe


@attrs.frozen(eq=False)
class Draw:
    """What chance adds to the clean images of a batch.

    Attributes:
        stages: int64 [batch], on the CPU, so that routing waits for no device.
        times: float64 [batch], on the CPU, each inside its stage.
        weights: float64 [batch], on the CPU: the recipe's weighting at these times, see `msdk.weightings.base`.
        noise: Standard normal, of the shape of the clean images and on their device.
        extra: More of it, [batch, n, ...] with n = `Objective.extra`; None where that is 0.
        iteration: Steps of the run done before, for losses that change as training goes on.
        posterior: Standard normal likewise, what draws clean latents from their Gaussians; None where nothing does.
        named: Whether `stages` say whose networks are asked, and times may be of other stages (`stage_draw.own`).
    """

    stages: "Tensor"
    times: "Tensor"
    weights: "Tensor"
    noise: "Tensor"
    extra: "Tensor | None" = None
    iteration: int = 0
    posterior: "Tensor | None" = None
    named: bool = False

    @property
    def asked(self) -> "Tensor | None":
        """The stages whose networks are asked, int64 [batch]; None where the times say it."""
        return self.stages if self.named else None

    def split(self, size: int | Sequence[int]) -> "list[Draw]":
        """Those of so many images each, or of these sizes; views."""
        sizes = size if isinstance(size, int) else list(size)
        parts = (whole.split(sizes) for whole in (self.stages, self.times, self.weights, self.noise))
        found = [Draw(*part, iteration=self.iteration, named=self.named) for part in zip(*parts, strict=True)]
        for name in ("posterior", "extra"):
            if (more := getattr(self, name)) is not None:
                found = [attrs.evolve(each, **{name: own}) for each, own in zip(found, more.split(sizes), strict=True)]
        return found


class Loss(Protocol):
    """What an objective builds: an nn.Module with a loss, whose parameters and buffers are its own."""

    def loss(self, batch: "Batch", draw: Draw, denoiser: "Denoiser") -> "Tensor":
        """The loss of every image, [batch], of which training minimises the mean.

        Args:
            batch: Clean images as the network sees them (latents, behind an autoencoder) and their conditions.
            draw: Of these images. Nothing else is drawn but dropout.
            denoiser: In training mode, on the device of the images; under autocast where `training.precision` says so.
        """
        ...


class Following(Protocol):
    """A loss that has more to do after each step of the optimiser."""

    def follow(self, denoiser: "Denoiser", iteration: int) -> None:
        """Takes in the denoiser's weights after so many steps."""
        ...


class Taught(Protocol):
    """A loss that needs a trained denoiser: that of the run which its spec names as `teacher`."""

    def teach(self, teacher: "Denoiser") -> None:
        """Gives it the denoiser, on the device of the training; it is neither trained nor saved with the run."""
        ...


class Objective(abc.ABC):
    """Spec of an objective. Concrete ones are frozen attrs classes.

    Attributes:
        calls: Forward passes of the network for the loss of an image, for budgets.
        learns_variance: Whether it trains the variance that decoders with `variance = true` predict.
        asks: Whether it asks the networks that `Draw.asked` names, so that `stage_draw.own` means something.
        extra: How many normal numbers it wants for each number of an image, beside `Draw.noise`.
    """

    calls: ClassVar[int] = 1
    extra: ClassVar[int] = 0
    learns_variance: ClassVar[bool] = False
    asks: ClassVar[bool] = False

    @abc.abstractmethod
    def build(self, denoiser: "Denoiser") -> Loss:
        """An nn.Module with a `loss`, for a denoiser; it keeps no reference to it.

        Its parameters are trained with those of the network; they and its buffers are averaged and saved like them.
        They start the same each time: what is random at the start has a seed of its own.
        """

    def check(self, recipe: "Recipe") -> None:
        """Raises `PartError` where a recipe's parts do not suit the objective."""
        if not self.learns_variance:
            refuse_variance(recipe)


def refuse_variance(recipe: "Recipe") -> None:
    """Raises `PartError` where a decoder predicts a variance, for objectives that leave it untrained."""
    stages = [str(stage) for stage, decoder in enumerate(recipe.decoders) if getattr(decoder, "variance", False)]
    if stages:
        raise PartError(
            f"decoders {', '.join(stages)} predict a variance (variance = true), which only an objective such as "
            'hybrid-vlb trains: set training.objective to { name = "hybrid-vlb" }, or variance to false'
        )
