"""Laws of autoencoders. Option: `shape` of the images."""

from typing import Any

import torch
from torch import Tensor, nn

from msdk.autoencoders.base import Autoencoder
from msdk.encoders.base import Shape
from msdk.testing import networks
from msdk.testing.laws import COMMON, require
from msdk.testing.networks import SHAPE


def _both(network: nn.Module, shape: Shape) -> list[Tensor]:
    first_stage: Any = network
    with torch.no_grad():
        latents = first_stage.encode(networks.images(shape).clamp(-1, 1))
        return [latents, first_stage.decode(latents)]


def latents_have_their_shape(autoencoder: Autoencoder, *, shape: Shape = SHAPE) -> None:
    """`encode` gives the shape that `latent_shape` says, and `decode` the image's; scale is a finite number."""
    for size in networks.sizes(autoencoder.latent_shape, shape):
        network = networks.built(lambda size=size: autoencoder.build(size))
        latents, decoded = _both(network, size)
        wanted = (2, *autoencoder.latent_shape(size))
        require(tuple(latents.shape) == wanted, f"latents are {tuple(latents.shape)}, and latent_shape says {wanted}")
        require(tuple(decoded.shape) == (2, *size), f"decoded images are {tuple(decoded.shape)}, not {(2, *size)}")
        first_stage: Any = network
        scale = float(first_stage.scale)
        require(0 < scale < float("inf"), f"scale is {scale}")


def builds_on_meta(autoencoder: Autoencoder, *, shape: Shape = SHAPE) -> None:
    """Budgets build it without memory."""
    networks.check_meta(lambda: autoencoder.build(shape))


def state_dict_round_trips(autoencoder: Autoencoder, *, shape: Shape = SHAPE) -> None:
    """A file of weights holds all of it."""
    networks.check_round_trip(lambda: autoencoder.build(shape), lambda network: _both(network, shape))


def it_is_deterministic(autoencoder: Autoencoder, *, shape: Shape = SHAPE) -> None:
    """One image has one latent, and one latent one image."""
    networks.check_deterministic(lambda: autoencoder.build(shape), lambda network: _both(network, shape))


LAWS = (*COMMON, latents_have_their_shape, builds_on_meta, state_dict_round_trips, it_is_deterministic)
