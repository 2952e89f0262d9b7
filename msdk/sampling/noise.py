"""Where samplers' noise comes from: fresh draws, or the increments of one Brownian path, for each image its own."""

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Generator, Tensor

from msdk.schedules.base import Schedule


class SeededNoise:
    """Standard normal noise for a batch whose images have a generator each, so that an image depends on its seed alone.

    Args:
        seeds: One per image.
    """

    def __init__(self, seeds: Sequence[int]) -> None:
        self._generators = [Generator().manual_seed(seed) for seed in seeds]  # on the CPU: the same on every device

    def __call__(
        self, like: Float[Tensor, "batch c *axes"], t: float = 0.0, s: float = 0.0
    ) -> Float[Tensor, "batch c *axes"]:
        draws = [torch.randn(like.shape[1:], generator=generator) for generator in self._generators]
        return torch.stack(draws).to(like.device, like.dtype)


DEPTH = 40
"""Halvings of the whole path; below its length / 2^40 the path is straight."""


class BrownianNoise:
    """The increments of one Brownian path for each image, over its ratio as clock, normalised.

    Between ratios a and b the noise is (W(b) - W(a)) / sqrt(|b - a|). So a finer grid adds the same noise in smaller
    pieces, and a sampler of an SDE goes to the same image. A path is not stored: W at a ratio follows from the seed by
    halving the whole again and again, each middle drawn given its ends, so any number of steps takes the memory of two.
    Source: Li et al. 2020, arXiv 2001.01328, section 4 (virtual Brownian tree).

    Args:
        seeds: One per image.
        schedule: Gives the ratio of a time.
    """

    def __init__(self, seeds: Sequence[int], schedule: Schedule) -> None:
        self._seeds, self._schedule = list(seeds), schedule
        self._whole = schedule.ratio(schedule.t_max)
        self._start = SeededNoise(seeds)
        self._known: dict[float, Tensor] = {}

    def __call__(self, like: Float[Tensor, "batch c *axes"], t: float, s: float) -> Float[Tensor, "batch c *axes"]:
        if t == s:  # where sampling starts there is no way yet
            return self._start(like, t, s)
        first, last = (self._ratio(u) for u in (t, s))
        ends = {ratio: self._path(like, ratio) for ratio in (first, last)}
        self._known = ends
        increment = (ends[last] - ends[first]) / math.sqrt(abs(last - first))
        return increment.to(like.device, like.dtype)

    def _ratio(self, t: float) -> float:
        return min(self._schedule.ratio(t), self._whole) if t else 0.0

    def _path(self, like: Tensor, ratio: float) -> Tensor:
        """W at a ratio, [batch, ...] in float64 on the CPU."""
        if ratio in self._known:
            return self._known[ratio]
        return torch.stack([self._of_image(like.shape[1:], seed, ratio) for seed in self._seeds])

    def _of_image(self, shape: torch.Size, seed: int, ratio: float) -> Tensor:
        def draw(node: int) -> Tensor:
            # The nodes of a tree of depth 40, and the seed, in one number that generators take.
            mixed = (seed * 0x9E3779B97F4A7C15 + node * 0xD1B54A32D192ED03 + 1) % 2**63
            return torch.randn(shape, generator=Generator().manual_seed(mixed), dtype=torch.float64)

        low, high, node = 0.0, self._whole, 1
        w_low, w_high = torch.zeros(shape, dtype=torch.float64), math.sqrt(self._whole) * draw(0)
        for _ in range(DEPTH):
            if ratio in (low, high):
                break
            middle = (low + high) / 2
            w_middle = (w_low + w_high) / 2 + math.sqrt(high - low) / 2 * draw(node)
            if ratio < middle:
                high, w_high, node = middle, w_middle, 2 * node
            else:
                low, w_low, node = middle, w_middle, 2 * node + 1
        return w_low + (w_high - w_low) * ((ratio - low) / (high - low))
