"""The denoising loss with the variational bound that trains the variance."""

import math
from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor, nn

from msdk.batch import Batch, per_image
from msdk.objectives.base import Draw
from msdk.objectives.denoising_loss import noisy, target, weighted_error
from msdk.schedules.vp_discrete import VPDiscrete

if TYPE_CHECKING:
    from msdk.denoiser import Denoiser


class HybridVLBLoss(nn.Module):
    """See `msdk.objectives.hybrid_vlb`. It owns nothing."""

    def __init__(self, vlb_weight: float) -> None:
        super().__init__()
        self.vlb_weight = vlb_weight

    def loss(self, batch: Batch, draw: Draw, denoiser: "Denoiser") -> Tensor:
        x_0, schedule = batch.images, cast("VPDiscrete", denoiser.schedule)
        outputs, c = denoiser.raw_output(noisy(x_0, draw, denoiser), draw.times, batch.condition, draw.asked)
        output, variance = outputs.to(x_0.dtype).chunk(2, dim=1)
        # The estimate's error without a difference of two large numbers; the bound must not move the mean.
        error = c.c_out * (output.detach() - target(x_0, draw, denoiser))
        bound = bits_of_step(schedule, draw.times, x_0, error, variance)
        return weighted_error(output, x_0, draw, denoiser) + self.vlb_weight * schedule.steps * bound


def bits_of_step(schedule: VPDiscrete, times: Tensor, x_0: Tensor, error: Tensor, variance: Tensor) -> Tensor:
    """The term of the variational bound that the step down from each time adds, in bits per dimension; [batch].

    Args:
        schedule: Whose steps these are: down from t to t - 1 / steps; from below 2 / steps it is the last one.
        times: float64 [batch], on the CPU.
        x_0: Clean images in [-1, 1] on a grid of 256 values.
        error: x_0 estimate - x_0.
        variance: The network's v, -1 for log beta~ and 1 for log beta.
    """
    pace = 1 / schedule.steps
    last = times < 2 * pace * (1 - 1e-9)
    before = torch.where(last, times, times - pace)  # of the last steps anything that is a time
    alpha, sigma = schedule.alpha(times), schedule.sigma(times)
    alpha_before = torch.where(last, 1.0, schedule.alpha(before))
    beta = 1 - (alpha / alpha_before) ** 2
    # The last step's own beta~ is 0, so it borrows that of the step before it.
    second = 2 * pace
    borrowed = (1 - (schedule.alpha(second) / schedule.alpha(pace)) ** 2) * (
        schedule.sigma(pace) / schedule.sigma(second)
    ) ** 2
    beta_tilde = torch.where(last, borrowed, beta * (schedule.sigma(before) / sigma) ** 2)
    of_estimate = alpha_before * beta / (sigma * sigma)
    high, low = per_image(beta.log(), x_0), per_image(beta_tilde.log(), x_0)
    log_variance = low + (variance + 1) / 2 * (high - low)
    gap = per_image(of_estimate, x_0) * error  # of the two means
    divergence = (log_variance - low - 1 + (low - log_variance).exp() + gap.square() * (-log_variance).exp()) / 2
    surprise = -_log_likelihood(x_0, -gap, log_variance / 2)
    nats = torch.where(per_image(last, x_0) > 0, surprise, divergence)
    return nats.mean(dim=tuple(range(1, x_0.ndim))) / math.log(2)


def _log_likelihood(x_0: Tensor, offset: Tensor, log_std: Tensor) -> Tensor:
    """Of a pixel's bin of 256 under a Gaussian, `offset` from its mean; the outermost bins reach to infinity.

    Source: Ho et al. 2020, arXiv 2006.11239, Eq. 13.
    """
    inverse = (-log_std).exp()
    upper, lower = (_normal_cdf(inverse * (offset + half)) for half in (1 / 255, -1 / 255))
    inside = torch.where(x_0 > 0.999, 1 - lower, torch.where(x_0 < -0.999, upper, upper - lower))
    return inside.clamp(min=1e-12).log()


def _normal_cdf(x: Tensor) -> Tensor:
    """As the originals approximate it."""
    return (1 + (math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)).tanh()) / 2
