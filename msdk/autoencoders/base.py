"""What an autoencoder is: images to latents and back, trained before the diffusion model and frozen in it.

It is two things: a frozen spec, which a recipe holds and which knows the shape of its latents, and the `nn.Module` that
`build` returns, which is a `FirstStage`.
"""

import abc
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Protocol

import attrs

from msdk.encoders.base import Shape

if TYPE_CHECKING:
    from torch import Tensor, nn


class FirstStage(Protocol):
    """What the module of an autoencoder can do.

    One whose latents are Gaussian also has `posterior(x)`, mean and log-variance of each, both of the latents' shape;
    `encode` gives the mean. `msdk data encode` keeps both. Where the spec has an attribute `sampled` that is true, each
    step of the diffusion's training draws its latents from them.

    Attributes:
        scale: Factor that brings latents to the variance which the diffusion model wants; the caller applies it.
    """

    scale: float

    def encode(self, x: "Tensor") -> "Tensor":
        """Images [batch, c, h, w] in [-1, 1] to latents, without randomness and without `scale`."""
        ...

    def decode(self, h: "Tensor") -> "Tensor":
        """Latents without `scale` to images, nominally in [-1, 1]."""
        ...


@attrs.frozen(kw_only=True)
class Autoencoder(abc.ABC):
    """Spec of an autoencoder. Concrete ones are frozen attrs classes.

    Args:
        weights: A .safetensors file of the module's own state dict, or a run folder that has one. Training needs it;
            budgets do not.

    Attributes:
        axes: Axes of the images that it takes: 2 of families for pictures; None takes any number of them.
    """

    axes: ClassVar[int | None] = None

    weights: Path | None = None

    @abc.abstractmethod
    def latent_shape(self, shape: Shape) -> Shape:
        """Channels and axes of the latents of images of a shape.

        Raises:
            PartError: The images do not suit the autoencoder; the message has the reason.
        """

    @abc.abstractmethod
    def build(self, shape: Shape) -> "nn.Module":
        """The network for images of a shape, with initial weights, on the current default device."""
