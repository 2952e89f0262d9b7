"""Data whose optimal denoiser, and whose flow from noise to image, are known: what samplers are measured on."""

import itertools
import math
from collections.abc import Callable

import attrs
import torch
from torch import Tensor

from msdk.samplers.base import Sampler
from msdk.schedules.base import Schedule

Mean = Callable[[Tensor, float], Tensor]
"""`mean(y, ratio)`: E[x_0 | x_t] for y = x_t / alpha."""


@attrs.frozen
class Mixture:
    """A mixture of Gaussians whose dimensions are independent.

    Args:
        weights: [components], which sum to 1.
        means: [components, d].
        stds: Of each component and dimension, [components, d].
    """

    weights: Tensor
    means: Tensor
    stds: Tensor

    def mean(self, y: Tensor, ratio: float) -> Tensor:
        """E[x_0 | x_t], for y = x_t / alpha [batch, d]."""
        variance = self.stds**2 + ratio**2
        offset = y[:, None] - self.means
        logits = self.weights.log() - (variance.log() + offset**2 / variance).sum(2) / 2
        means = self.means + self.stds**2 / variance * offset
        return (logits.softmax(1)[:, :, None] * means).sum(1)


MIXTURE = Mixture(
    torch.tensor([0.35, 0.65], dtype=torch.float64),
    torch.tensor([[-0.6, 0.3], [0.7, -0.4]], dtype=torch.float64),
    torch.tensor([[0.15, 0.25], [0.3, 0.1]], dtype=torch.float64),
)
"""Two components in the plane."""


def mixture_mean(y: Tensor, ratio: float) -> Tensor:
    """E[x_0 | x_t] of `MIXTURE`, for y = x_t / alpha [batch, 2]."""
    return MIXTURE.mean(y, ratio)


def mixture_flow(schedule: Schedule, t_end: float, steps: int = 300) -> tuple[Tensor, Tensor]:
    """Start points, and where the exact flow dy / dlog(ratio) = y - D takes them at t_end, by RK4; [8, 2] each."""
    x = schedule.prior_std * torch.randn(8, 2, generator=torch.Generator().manual_seed(111), dtype=torch.float64)
    y, log_ratio = x / schedule.alpha(schedule.t_max), -schedule.lam(schedule.t_max)
    h = (-schedule.lam(t_end) - log_ratio) / steps

    def slope(y: Tensor, u: float) -> Tensor:
        return y - mixture_mean(y, math.exp(u))

    for i in range(steps):
        u = log_ratio + i * h
        k1 = slope(y, u)
        k2 = slope(y + h / 2 * k1, u + h / 2)
        k3 = slope(y + h / 2 * k2, u + h / 2)
        k4 = slope(y + h * k3, u + h)
        y = y + h / 6 * (k1 + 2 * k2 + 2 * k3 + k4)
    return x, y * schedule.alpha(t_end)


GAUSSIAN_MEAN, GAUSSIAN_STD = 0.3, 0.5


def gaussian_mean(y: Tensor, ratio: float) -> Tensor:
    """E[x_0 | x_t] of independent normal numbers with `GAUSSIAN_MEAN` and `GAUSSIAN_STD`."""
    return GAUSSIAN_MEAN + GAUSSIAN_STD**2 / (GAUSSIAN_STD**2 + ratio**2) * (y - GAUSSIAN_MEAN)


def gaussian_flow(schedule: Schedule, x: Tensor, t_end: float) -> Tensor:
    """Where the exact flow takes x of the last time at t_end: y - mean shrinks as the deviation of y does."""
    last, ratio = schedule.ratio(schedule.t_max), schedule.ratio(t_end)
    shrink = math.sqrt((GAUSSIAN_STD**2 + ratio**2) / (GAUSSIAN_STD**2 + last**2))
    y = x / schedule.alpha(schedule.t_max)
    return schedule.alpha(t_end) * (GAUSSIAN_MEAN + shrink * (y - GAUSSIAN_MEAN))


def sampled(sampler: Sampler, schedule: Schedule, times: list[float], mean: Mean, x: Tensor, seed: int = 0) -> Tensor:
    """Runs a sampler around an exact denoiser, from x at the first of the times, with noise of a seed."""
    generator = torch.Generator().manual_seed(seed)

    def denoise(x_t: Tensor, t: float) -> Tensor:
        return mean(x_t / schedule.alpha(t), schedule.ratio(t))

    def noise(x: Tensor, t: float, s: float) -> Tensor:
        return torch.randn(x.shape, generator=generator, dtype=x.dtype)

    memory = sampler.init(times)
    for t, s in itertools.pairwise(times):
        x, memory = sampler.step(denoise, schedule, x, t, s, memory, noise)
    return x
