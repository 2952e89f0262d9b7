"""The denoising loss, and the weighted squared error that other losses are made of."""

from typing import TYPE_CHECKING

import attrs
from torch import Tensor, nn

from msdk.batch import Batch, per_image
from msdk.objectives.base import Draw

if TYPE_CHECKING:
    from msdk.denoiser import Denoiser


class DenoisingLoss(nn.Module):
    """The weighted squared error, see `msdk.objectives.denoising`. It owns nothing."""

    def __init__(self, input_perturbation: float = 0.0, noise_offset: float = 0.0) -> None:
        super().__init__()
        self.input_perturbation, self.noise_offset = input_perturbation, noise_offset

    def loss(self, batch: Batch, draw: Draw, denoiser: "Denoiser") -> Tensor:
        x_0 = batch.images
        if self.noise_offset:
            assert draw.extra is not None
            first = draw.extra[:, -1].flatten(2)[..., :1].view(*x_0.shape[:2], *[1] * (x_0.ndim - 2))
            draw = attrs.evolve(draw, noise=draw.noise + self.noise_offset * first)
        seen = noisy(x_0, draw, denoiser)
        if self.input_perturbation:
            assert draw.extra is not None
            sigma = per_image(denoiser.schedule.sigma(draw.times), x_0)
            seen = seen + sigma * self.input_perturbation * draw.extra[:, 0]
        output, _ = denoiser.output(seen, draw.times, batch.condition, draw.asked)
        return weighted_error(output, x_0, draw, denoiser)


def noisy(x_0: Tensor, draw: Draw, denoiser: "Denoiser") -> Tensor:
    """x_t = alpha x_0 + sigma noise."""
    schedule = denoiser.schedule
    alpha, sigma = (per_image(values, x_0) for values in (schedule.alpha(draw.times), schedule.sigma(draw.times)))
    return alpha * x_0 + sigma * draw.noise


def target(x_0: Tensor, draw: Draw, denoiser: "Denoiser") -> Tensor:
    """What the network's output F is to be."""
    weights = denoiser.parameterization.target_weights(denoiser.schedule, draw.times)
    of_image, of_noise = (per_image(values, x_0) for values in weights)
    return of_image * x_0 + of_noise * draw.noise


def weighted_error(output: Tensor, x_0: Tensor, draw: Draw, denoiser: "Denoiser") -> Tensor:
    """w(t) |x_0 estimate - x_0|^2 of every image, mean over its dimensions; [batch].

    The error is taken at the network's output F, where target and weight are exact in float64 per image:
    w(t) c_out(t)^2 |F - (a x_0 + b eps)|^2 is the same.
    """
    wanted = target(x_0, draw, denoiser)
    c_out = denoiser.parameterization.coefficients(denoiser.schedule, draw.times).c_out
    weight = per_image(draw.weights * c_out * c_out, x_0)
    return (weight * (output.to(wanted.dtype) - wanted).square()).mean(dim=tuple(range(1, x_0.ndim)))
