"""Wrappers that any sampler takes in the place of the network: clipping, thresholding, inpainting."""

from typing import TYPE_CHECKING

from msdk.samplers.base import Denoise
from msdk.schedules.base import Schedule

if TYPE_CHECKING:
    from torch import Tensor


def clipped(denoise: Denoise, low: float = -1.0, high: float = 1.0) -> Denoise:
    """Estimates kept within the range of images, as DDPM does (Ho et al. 2020, arXiv 2006.11239)."""
    return lambda x_t, t: denoise(x_t, t).clamp(low, high)


def dynamic_threshold(denoise: Denoise, ratio: float = 0.995, least: float = 1.0) -> Denoise:
    """Estimates clipped to [-q, q] and divided by q, where q is a quantile of each image's values.

    Source: Saharia et al. 2022, arXiv 2205.11487, section 2.3.

    Args:
        denoise: Estimates x_0.
        ratio: Share of an image's values that the quantile lies above.
        least: The least q.
    """
    import torch

    def estimate(x_t: "Tensor", t: float) -> "Tensor":
        x_0 = denoise(x_t, t)
        q = torch.quantile(x_0.flatten(1).abs(), ratio, dim=1).clamp(min=least)
        q = q.view(-1, *[1] * (x_0.ndim - 1))
        return torch.minimum(torch.maximum(x_0, -q), q) / q

    return estimate


def inpainted(denoise: Denoise, schedule: Schedule, known: "Tensor", mask: "Tensor", noise: "Tensor") -> Denoise:
    """Estimates for images of which a part is known: that part is replaced in what the network sees and says.

    The network is fed mask (alpha known + sigma noise) + (1 - mask) x_t, and its estimate becomes mask known +
    (1 - mask) x_0: replacement (Song et al. 2021, arXiv 2011.13456, appendix I.2) with one draw of noise for all calls.

    Args:
        denoise: Estimates x_0.
        schedule: Gives alpha and sigma.
        known: Clean images, [batch, c, h, w] or one for all.
        mask: 1 where they are known, 0 elsewhere; broadcasts.
        noise: Standard normal, like the images.
    """

    def estimate(x_t: "Tensor", t: float) -> "Tensor":
        seen = schedule.alpha(t) * known + schedule.sigma(t) * noise
        x_0 = denoise(mask * seen + (1 - mask) * x_t, t)
        return mask * known + (1 - mask) * x_0

    return estimate
