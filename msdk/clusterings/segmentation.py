"""The best cut of a time grid into contiguous segments, by exact dynamic programming."""

import abc
import math
from typing import TYPE_CHECKING

import attrs
from attrs.validators import ge, gt, le, optional

from msdk.clusterings.base import Clustering, Found, Subject
from msdk.errors import PartError
from msdk.schedules.base import Schedule
from msdk.schedules.clocks import Clock

if TYPE_CHECKING:
    from torch import Tensor


MOST_POINTS = 10_000
"""Of a time grid: two of them are compared with each other, so that it takes 800 MB."""


@attrs.frozen
class Lengths:
    """How many points of a grid a segment may have."""

    shortest: int
    longest: int

    @classmethod
    def of_shares(cls, points: int, segments: int, shortest: float | None, longest: float | None) -> "Lengths":
        """Bounds that are given as shares of the grid; those of `usual` where they are not.

        Raises:
            PartError: No cut of the grid keeps to them.
        """
        usual = cls.usual(points, segments)
        low = usual.shortest if shortest is None else max(math.ceil(shortest * points - 1e-9), 1)
        high = usual.longest if longest is None else math.floor(longest * points + 1e-9)
        if segments > points:
            raise PartError(f"{segments} stages need a time grid of at least {segments} points, got {points}")
        if low * segments > points:
            raise PartError(f"{segments} stages of at least {low} of {points} points do not fit: lower shortest")
        if high * segments < points:
            raise PartError(f"{segments} stages of at most {high} of {points} points leave a gap: raise longest")
        return cls(low, high)

    @classmethod
    def usual(cls, points: int, segments: int) -> "Lengths":
        """floor(n / 2k) .. ceil(3n / 2k), so that no stage vanishes (the paper's section 4.2).

        Raises:
            PartError: More segments than the grid can hold.
        """
        if points < 2 * segments:
            raise PartError(f"{segments} stages need a time grid of at least {2 * segments} points, got {points}")
        return cls(points // (2 * segments), -(-3 * points // (2 * segments)))


@attrs.frozen(kw_only=True)
class GridClustering(Clustering):
    """Contiguous stages of a time grid whose values are nearest to those of their middles.

    Args:
        stages: Number of stages.
        points: Points of the time grid, which is even by the schedule's own clock.
        shortest: Least length of a stage as a share of the grid; 1 / (2 stages) when not given.
        longest: Largest length; 3 / (2 stages) when not given.
    """

    stages: int = attrs.field(default=3, validator=ge(2))
    points: int = attrs.field(default=1000, validator=[ge(4), le(MOST_POINTS)])
    shortest: float | None = attrs.field(default=None, validator=optional(ge(0)))
    longest: float | None = attrs.field(default=None, validator=optional(gt(0)))

    @abc.abstractmethod
    def values(self, subject: Subject, times: "Tensor") -> "Tensor":
        """What is compared, float64 [points]."""

    def find(self, subject: Subject) -> Found:
        lengths = Lengths.of_shares(self.points, self.stages, self.shortest, self.longest)
        times = grid(subject.schedule, self.points)
        values = self.values(subject, times)
        cuts = by_middle((values[:, None] - values).abs(), self.stages, lengths)
        return Found(edges_t=tuple(times[cuts].tolist()), curves={"t": times.tolist(), "compared": values.tolist()})


def by_middle(distance: "Tensor", segments: int, lengths: Lengths) -> list[int]:
    """First element of every segment but the first, for the cut with the least summed distance to the middles.

    The cost of a segment [i, j) is the sum over its elements t of distance[t, m], m = i + (j - i) // 2. Of equal cuts
    the one with the smallest starts, counted from the last segment, is taken.
    Source: Go et al. 2023, arXiv 2306.00354, section 4.2.

    Args:
        distance: float64 [n, n].
        segments: k.
        lengths: That a segment may have.
    """
    import torch

    count = len(distance)
    starts, ends = torch.arange(count + 1)[:, None], torch.arange(count + 1)
    middles = (starts + (ends - starts).clamp(min=0) // 2).clamp(max=count - 1)
    below = torch.cat([distance.new_zeros(1, count), distance.cumsum(0)])
    return _best_cut(
        below[ends.expand_as(middles), middles] - below[starts.expand_as(middles), middles], segments, lengths
    )


def within(similarity: "Tensor", segments: int, lengths: Lengths) -> list[int]:
    """First element of every segment but the first, for the cut with the highest mean similarity inside segments.

    It maximises the sum over segments [i, j) of (sum of similarity[t, u] for t, u in [i, j)) / (j - i), which is n
    times the mean over all elements of their mean similarity to the elements of their segment.
    Source: ours.

    Args:
        similarity: float64 [n, n].
        segments: k.
        lengths: That a segment may have.
    """
    import torch

    count = len(similarity)
    below = torch.zeros(count + 1, count + 1, dtype=similarity.dtype)
    below[1:, 1:] = similarity.cumsum(0).cumsum(1)
    corner = below.diagonal()
    inside = corner[:, None] + corner - below - below.T
    length = (torch.arange(count + 1) - torch.arange(count + 1)[:, None]).clamp(min=1)
    return _best_cut(-inside / length, segments, lengths)


def _best_cut(cost: "Tensor", segments: int, lengths: Lengths) -> list[int]:
    """The starts of all segments but the first; `cost[i, j]` is that of a segment [i, j), float64 [n + 1, n + 1]."""
    import torch

    ends = torch.arange(len(cost))
    length = ends - ends[:, None]
    possible = (length >= max(lengths.shortest, 1)) & (length <= lengths.longest)
    slack = 1e-12 * float(cost.abs().max()) * len(cost)  # rounding must not break a tie that exact arithmetic has
    cost = cost.masked_fill(~possible, torch.inf)
    best = torch.full_like(cost[0], torch.inf)
    best[0] = 0
    chosen: list[Tensor] = []
    for _ in range(segments):
        through = best[:, None] + cost
        best = through.amin(0)
        chosen.append((through <= best + slack).byte().argmax(0))  # the first of equals
    cuts, end = list[int](), len(cost) - 1
    for starts in reversed(chosen[1:]):
        end = int(starts[end])
        cuts.append(end)
    return cuts[::-1]


def grid(schedule: Schedule, points: int, first: float | None = None) -> "Tensor":
    """`points` times, float64, at i / points of the way from `first` to t_max by the schedule's clock, i = 1 .. points.

    Args:
        schedule: Whose time; its clock is t itself but where t is a noise level, see `Schedule.default_grid`.
        points: How many.
        first: Where the way begins; the schedule's t_min when not given.
    """
    import torch

    clock, low, high = Clock.of(schedule), schedule.t_min if first is None else first, schedule.t_max
    if clock.grid == "uniform-t":
        return low + (high - low) * torch.arange(1, points + 1, dtype=torch.float64) / points
    return clock.between(low, high, torch.arange(1, points + 1, dtype=torch.float64) / points)
