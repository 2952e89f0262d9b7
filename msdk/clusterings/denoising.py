"""What strategies share that look at the optimal denoiser: what they draw, and what they measure there."""

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, ClassVar

import attrs
from attrs.validators import ge, gt, le

from msdk.clusterings.base import Clustering, Need, Points, Subject
from msdk.clusterings.posterior import Posterior, Range, Scaled, posterior
from msdk.errors import PartError
from msdk.schedules.clocks import Clock

if TYPE_CHECKING:
    from torch import Generator, Tensor

COMPARED = 256
"""Pairs that are compared at a time."""

MOST_DRAWS = 10_000_000
"""Noisy images that any strategy could wait for."""

NUMBERS = 2**24
"""Numbers of noisy points at a time: with sums in float64 and copies, less than 1 GB."""


@attrs.frozen(kw_only=True)
class DenoiserClustering(Clustering):
    """A strategy that looks at the optimal denoiser of the training data.

    Args:
        draws: Number of noisy images.
        pixels: Range that pixels are scaled to; latents stay as they are.
        t_first: Smallest time looked at; the schedule's `t_min` if that is larger.
    """

    needs: ClassVar[frozenset[Need]] = frozenset({"data"})
    draws: int = attrs.field(default=4000, validator=[ge(10), le(MOST_DRAWS)])
    pixels: Range = "0..1"
    t_first: float = attrs.field(default=1e-3, validator=gt(0))

    def span(self, subject: Subject) -> tuple[float, float]:
        """First and last time looked at."""
        return max(self.t_first, subject.schedule.t_min), subject.schedule.t_max

    def pieces(self, subject: Subject, points: Points, ratios: "Tensor") -> "Iterator[Piece]":
        """Draws an image and noise for each row of ratios and gives their posterior means, some rows at a time.

        Every row has random numbers of its own, so that nothing depends on how many are worked on at a time.

        Args:
            subject: Its seed, device and group are used.
            points: The data.
            ratios: float64 [pairs, ratios].

        Raises:
            PartError: The data are not finite, or all the same.
        """
        picks = drawn_points(subject, points, len(ratios))
        rows = max(NUMBERS // (points.size * ratios.shape[1]), 1)
        starts, data = range(0, len(ratios), rows), Scaled(points, self.pixels)
        for number, start in enumerate(starts):
            chosen = range(start, min(start + rows, len(ratios)))
            clean = data.take([picks[row] for row in chosen]).to(subject.device)
            noise = drawn_noise(subject, points, chosen).to(subject.device)

            def told(done: int, total: int, number: int = number) -> None:
                subject.progress(number * total + done, len(starts) * total)

            ratio = ratios[start : start + rows]
            found = posterior(data, clean, noise, ratio, group=subject.group, progress=told)
            if found.variance < 1e-12:
                raise PartError("all images are the same, so that time makes no difference: there is nothing to cut")
            # What follows is elementwise and in float64: in small pieces, it takes no more memory than this did.
            for first in range(0, len(ratio), COMPARED):
                part = slice(first, first + COMPARED)
                near, own = clean[part].double(), ratio[part].to(subject.device)
                yield Piece(near, noise[part].double(), own, found.mean[part], found.data_mean, found)

    def range_warnings(self, points: Points, found: Posterior) -> tuple[str, ...]:
        """What to say where the data are not of the range that the settings mean."""
        if not points.pixels:
            return (
                f"The data are latents from {found.low:.3g} to {found.high:.3g} with a standard deviation of "
                f"{found.variance**0.5:.3g}; settings of this strategy that are differences of pixels are differences "
                "of latents here.",
            )
        low, high = (float(end) for end in self.pixels.split(".."))
        if found.high - found.low < (high - low) / 2:
            return (
                f"The pixels lie between {found.low:.4g} and {found.high:.4g} only, where pixels = {self.pixels} means "
                f"{low:g} to {high:g}: are these images of 8 bits? Edges found are those of darker or paler images.",
            )
        return ()


@attrs.frozen
class Piece:
    """Some noisy points and what is known there; float64, on the device.

    Attributes:
        clean: x_0, [pairs, d].
        noise: eps, [pairs, d].
        ratios: [pairs, ratios].
        mean: E[x_0 | x_t], [pairs, ratios, d].
        data_mean: [d].
        found: Where it comes from.
    """

    clean: "Tensor"
    noise: "Tensor"
    ratios: "Tensor"
    mean: "Tensor"
    data_mean: "Tensor"
    found: Posterior

    def excess(self) -> "Tensor":
        """eps*_t(x_t) - eps = (x_0 - E[x_0 | x_t]) / ratio, [pairs, ratios, d]; eps is the answer at t = 0."""
        return (self.clean[:, None] - self.mean) / self.ratios[..., None]


def _generator(seed: int, number: int) -> "Generator":
    import torch

    return torch.Generator().manual_seed((seed * 0x9E3779B97F4A7C15 + number * 0xD1B54A32D192ED03 + 1) % 2**63)


def _noise(seed: int, row: int, size: int) -> "Tensor":
    import torch

    return torch.randn(size, generator=_generator(seed, row + 2))


def drawn_points(subject: Subject, points: Points, count: int) -> list[int]:
    """Which point of the data each of so many rows is a noisy version of."""
    import torch

    return torch.randint(points.count, (count,), generator=_generator(subject.seed, 0)).tolist()


def drawn_noise(subject: Subject, points: Points, rows: Iterable[int]) -> "Tensor":
    """Normal numbers of rows, each of which has its own, float32 [rows, d]."""
    import torch

    return torch.stack([_noise(subject.seed, row, points.size) for row in rows])


def drawn_times(subject: Subject, count: int, low: float, high: float) -> "Tensor":
    """Times drawn uniformly by the schedule's own clock, ascending, float64 [count]."""
    import torch

    uniform = torch.rand(count, generator=_generator(subject.seed, 1), dtype=torch.float64)
    return Clock.of(subject.schedule).between(low, high, uniform).sort().values
