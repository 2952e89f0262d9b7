"""The denoiser: a parameterisation around a staged network, routed by a partition of the noise ratio."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, cast

import torch
from jaxtyping import Float
from torch import Tensor, nn

from msdk.autoencoders.base import FirstStage
from msdk.batch import Condition, per_image
from msdk.denoiser.declared import latents
from msdk.denoiser.network import StagedNetwork, StageNetwork
from msdk.encoders.base import Shape
from msdk.errors import PartError
from msdk.parameterizations.base import Coefficients, Parameterization
from msdk.partition import Partition
from msdk.schedules.base import Schedule

if TYPE_CHECKING:
    from msdk.recipe import Recipe

Given = Condition | Tensor | None
"""What estimates are conditioned on: a whole condition, or class numbers as the short way to say one."""


class Denoiser(nn.Module):
    """Estimates the clean image from a noisy one, with the decoder of the noise level's stage.

    Args:
        network: The staged network.
        partition: Stage edges in ratio.
        schedule: Gives `t` its meaning.
        parameterization: What the network is fed and what its output means.
        shape: Channels and axes of what the network sees: of the images, or of their latents.
        classes: Classes of its labels; 0 for an unconditional one.
        unit_range: Whether its images are in [0, 1] instead of [-1, 1].
        autoencoder: Between images and latents, a `FirstStage`; it is frozen here. None where the network sees images.

    Attributes:
        recipe: What it was built from, which says how to sample; None where it was joined from parts.
        class_names: The name of class 0, of class 1, ...; empty where the data of its run have none.
    """

    recipe: "Recipe | None" = None
    class_names: Sequence[str] = ()

    def __init__(
        self,
        network: StagedNetwork,
        partition: Partition,
        schedule: Schedule,
        parameterization: Parameterization,
        shape: Shape,
        classes: int = 0,
        *,
        unit_range: bool = False,
        autoencoder: nn.Module | None = None,
    ) -> None:
        super().__init__()
        if len(partition) != len(network.decoders):
            raise PartError(f"{len(partition)} stages need as many decoders, got {len(network.decoders)}")
        self.network = network
        self.partition, self.schedule, self.parameterization = partition, schedule, parameterization
        self.shape, self.classes, self.unit_range = shape, classes, unit_range
        self.autoencoder = None if autoencoder is None else autoencoder.eval().requires_grad_(False)
        # Says which device and dtype images are to have, also while networks are not loaded (offloading.py).
        self.register_buffer("place", torch.empty(0), persistent=False)
        self.place: Tensor

    def __repr__(self) -> str:
        """A few lines; `print(denoiser.network)` has every module."""

        def size(part: nn.Module) -> str:
            return f"{sum(each.numel() for each in part.parameters()) / 1e6:.4g} M parameters"

        sides, dtype = " x ".join(map(str, self.shape)), str(self.place.dtype).removeprefix("torch.")
        classes = f", {self.classes} classes" if self.classes else ""
        lines = [
            f"Denoiser of {sides}{classes}: {size(self.network)}, {dtype} on {self.place.device}",
            f"  {self.schedule}",
            f"  {self.parameterization}" + (", in the latents of an autoencoder" if self.autoencoder else ""),
        ]
        for stage, decoder in zip(self.partition.stages, self.network.decoders, strict=True):
            lines.append(
                f"  stage {stage.index}: ratio {stage.low:.4g} .. {stage.high:.4g}, decoder of {size(decoder)}"
            )
        return "\n".join(lines)

    def train(self, mode: bool = True) -> "Denoiser":
        """Sets training mode, in which only the network changes: the autoencoder is frozen and stays in eval mode."""
        super().train(mode)
        if self.autoencoder is not None:
            self.autoencoder.eval()
        return self

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "Denoiser":
        """Moves every tensor once. torch moves a buffer that two modules share twice, and makes two of it."""
        moved: dict[int, tuple[Tensor, Tensor]] = {}  # the old one too, so that no new one gets its number

        def once(tensor: Tensor) -> Tensor:
            if id(tensor) not in moved:
                moved[id(tensor)] = tensor, fn(tensor)
            return moved[id(tensor)][1]

        return super()._apply(once, recurse)

    def encode(self, images: Float[Tensor, "batch c *axes"]) -> Float[Tensor, "batch d *inner"]:
        """What the network sees of images in its range: their scaled latents, or the images themselves."""
        if self.autoencoder is None:
            return images
        first_stage = cast("FirstStage", self.autoencoder)
        found = first_stage.encode(images)
        if self.recipe is not None and self.recipe.autoencoder is not None:
            latents(self.recipe.autoencoder, found, images)
        return found * first_stage.scale

    def decode(self, x_0: Float[Tensor, "batch d *inner"]) -> Float[Tensor, "batch c *axes"]:
        """The images of what the network sees, nominally in [-1, 1]."""
        if self.autoencoder is None:
            return x_0
        first_stage = cast("FirstStage", self.autoencoder)
        return first_stage.decode(x_0 / first_stage.scale)

    def forward(
        self,
        x_t: Float[Tensor, "batch c *axes"],
        t: float | Tensor,
        label: Given = None,
        augment: Tensor | None = None,
    ) -> Float[Tensor, "batch d *axes"]:
        """Estimates x_0, of as many channels as the images have: half of x_t's, where velocities lie behind them.

        Args:
            x_t: Noisy images.
            t: One time for the whole batch as a float (no device synchronisation), or a tensor [batch] of mixed
                stages; on the CPU it costs no synchronisation either.
            label: What the images are conditioned on: a whole `Condition`; or class numbers int64 [batch], -1 for none,
                or rows [batch, classes]; None for nothing at all.
            augment: Augmentation labels [batch, n] beside class numbers, for encoders that take them.
        """
        output, c = self.output(x_t, t, Condition.of(label, augment))
        return c.c_skip * self._seen(x_t, t) + c.c_out * output

    def _seen(self, x_t: Tensor, t: float | Tensor) -> Tensor:
        """The part of the network's input that coefficients are about: x_t, or image and velocity summed."""
        schedule = self.schedule.seen
        if self.schedule.feeds == 1:
            return x_t
        time: Any = t.double() if isinstance(t, Tensor) else float(t)
        weights = schedule.weights(time)
        parts = x_t.chunk(len(weights), dim=1)
        factors = [per_image(each, parts[0]) for each in weights] if isinstance(t, Tensor) else weights
        return sum((factor * part for factor, part in zip(factors[1:], parts[1:], strict=True)), factors[0] * parts[0])

    @property
    def fed(self) -> Shape:
        """Channels and axes of what the network is fed: of images, and of their velocities behind them."""
        return (self.shape[0] * self.schedule.feeds, *self.shape[1:])

    def output(
        self,
        x_t: Float[Tensor, "batch c *axes"],
        t: float | Tensor,
        condition: Condition | None = None,
        stages: Tensor | None = None,
    ) -> tuple[Float[Tensor, "batch d *axes"], Coefficients[Any]]:
        """The network's own output F, and the coefficients that turn it into x_0, ready to multiply images.

        Of a network that predicts a variance too, F is the first half.

        Args:
            x_t: Noisy images.
            t: Their time, or the time of each.
            condition: Of the images.
            stages: Whose networks are asked, int64 [batch], beside a tensor of times; those of the times unless given.
        """
        outputs, c = self.raw_output(x_t, t, condition, stages)
        return outputs[:, : x_t.shape[1] // self.schedule.feeds], c

    def raw_output(
        self,
        x_t: Float[Tensor, "batch c *axes"],
        t: float | Tensor,
        condition: Condition | None = None,
        stages: Tensor | None = None,
    ) -> tuple[Float[Tensor, "batch outputs *axes"], Coefficients[Any]]:
        """All that the network gives: F, and behind it the variance of one that predicts it; and as `output`."""
        # A noise level fed in bf16 would be off by up to 2 of 999; Apple's devices have no float64.
        precise = torch.float32 if x_t.device.type == "mps" else torch.float64
        if not isinstance(t, Tensor):
            c = self.parameterization.coefficients(self.schedule.seen, float(t))
            c_noise = torch.full((1,), c.c_noise, dtype=precise, device=x_t.device)
            stage = self.partition.at(float(t), self.schedule)
            return self.network(c.c_in * x_t, c_noise, stage, condition), c
        if t.shape != x_t.shape[:1]:
            raise PartError(
                f"t must be a float or have one entry per image, got {tuple(t.shape)} for {len(x_t)} images"
            )
        t = t.double()  # so that stages and scales do not depend on the dtype of the images
        c = self.parameterization.coefficients(self.schedule.seen, t)
        c_noise = c.c_noise.to(x_t.device, precise, non_blocking=True)
        stages = self.partition.at(t, self.schedule) if stages is None else stages
        shaped = Coefficients(*(per_image(part, x_t) for part in (c.c_skip, c.c_out, c.c_in, c.c_noise)))
        return self.network.route(shaped.c_in * x_t, c_noise, stages, condition), shaped

    def eps(self, x_t: Float[Tensor, "batch c *axes"], t: float | Tensor, label: Given = None) -> Tensor:
        """The noise that the estimate implies: (x_t - alpha x_0) / sigma.

        It is composed from the network's output, because x_t - alpha x_0 cancels near the data.
        """
        return self._combined(x_t, t, label, lambda alpha, sigma: (1 / sigma, -alpha / sigma))

    def score(self, x_t: Float[Tensor, "batch c *axes"], t: float | Tensor, label: Given = None) -> Tensor:
        """The gradient of log p_t at x_t: -eps / sigma."""
        return self._combined(x_t, t, label, lambda alpha, sigma: (-1 / sigma**2, alpha / sigma**2))

    def v(self, x_t: Float[Tensor, "batch c *axes"], t: float | Tensor, label: Given = None) -> Tensor:
        """Velocity alpha eps - sigma x_0 (Salimans and Ho 2022, arXiv 2202.00512)."""
        return self._combined(x_t, t, label, lambda alpha, sigma: (alpha / sigma, -alpha * alpha / sigma - sigma))

    def _combined(
        self,
        x_t: Tensor,
        t: float | Tensor,
        label: Given,
        weights: Callable[[Any, Any], tuple[Any, Any]],
    ) -> Tensor:
        """`a x_t + b x_0` for `(a, b) = weights(alpha, sigma)`, with the factor of x_t summed in float64."""
        if self.schedule.feeds != 1:
            name = type(self.schedule).__name__
            raise PartError(f"noise, score and velocity of an image alone are not those of {name}, which has two parts")
        time: Any = t.double() if isinstance(t, Tensor) else float(t)
        c = self.parameterization.coefficients(self.schedule, time)
        of_x, of_estimate = weights(self.schedule.alpha(time), self.schedule.sigma(time))
        factors: list[Any] = [of_x + of_estimate * c.c_skip, of_estimate * c.c_out]
        if isinstance(t, Tensor):
            factors = [per_image(factor, x_t) for factor in factors]
        output, _ = self.output(x_t, t, Condition.of(label))
        return factors[0] * x_t + factors[1] * output

    def stage(self, index: int) -> StageNetwork:
        """Encoder and decoder of one stage as a module of their own."""
        return StageNetwork(self.network.encoder(index), self.network.decoders[index], self.network.adapter(index))
