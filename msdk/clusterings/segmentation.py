"""The best cut of a time grid into contiguous segments, by exact dynamic programming."""

import abc
from typing import TYPE_CHECKING, ClassVar

import attrs
from attrs.validators import ge

from msdk.clusterings.base import Clustering, Found, Images, Progress
from msdk.errors import PartError
from msdk.schedules.base import Schedule

if TYPE_CHECKING:
    from torch import Tensor


@attrs.frozen(kw_only=True)
class GridClustering(Clustering):
    """Contiguous stages of a time grid whose values are nearest to those of their middles. Looks at no data.

    Args:
        stages: Number of stages.
        points: Points of the time grid.
    """

    looks_at_data: ClassVar[bool] = False
    stages: int = attrs.field(default=3, validator=ge(2))
    points: int = attrs.field(default=1000, validator=ge(4))

    @abc.abstractmethod
    def values(self, schedule: Schedule, times: "Tensor") -> "Tensor":
        """What is compared: monotone float64 [points]."""

    def find(self, schedule: Schedule, images: Images, *, seed: int, device: str, progress: Progress) -> Found:
        times = grid(schedule.t_min, schedule.t_max, self.points)
        compared = self.values(schedule, times)
        edges = times[segment_by_middle(compared, self.stages)]
        return Found(tuple(edges.tolist()), curves={"t": times.tolist(), "compared": compared.tolist()})


def segment_by_middle(values: "Tensor", segments: int) -> list[int]:
    """First element of every segment but the first, for the cut with the least summed distance to the middles.

    The cost of a segment [i, j) is the sum over its elements of |value - value of element i + (j - i) // 2|. Lengths
    lie between floor(n / 2k) and ceil(3n / 2k), so that no stage vanishes; of equal cuts the one with the smallest
    starts, counted from the last segment, is taken.
    Source: Go et al. 2023, arXiv 2306.00354, section 4.2, with the paper's section 4.2 for the length bounds.

    Args:
        values: Monotone float64 [n].
        segments: k, at least 1.

    Raises:
        PartError: More segments than the grid can hold.
    """
    import torch

    n = len(values)
    shortest, longest = n // (2 * segments), -(-3 * n // (2 * segments))
    if shortest < 1:
        raise PartError(f"{segments} stages need a time grid of at least {2 * segments} points, got {n}")
    rising = values if values[-1] >= values[0] else -values
    total = torch.cat([rising.new_zeros(1), rising.cumsum(0)])

    def cost(starts: "Tensor", end: int) -> "Tensor":
        middle = starts + (end - starts) // 2
        at = rising[middle]
        return (total[end] - total[middle] - at * (end - middle)) + (
            at * (middle - starts) - total[middle] + total[starts]
        )

    best = rising.new_full((segments + 1, n + 1), torch.inf)
    start_of = torch.zeros(segments + 1, n + 1, dtype=torch.long)
    best[0, 0] = 0
    slack = 1e-12 * float(rising.abs().max()) * n  # rounding must not break a tie that exact arithmetic has
    for k in range(1, segments + 1):
        for end in range(shortest, n + 1):
            starts = torch.arange(max(end - longest, 0), end - shortest + 1)
            costs = best[k - 1, starts] + cost(starts, end)
            first = int((costs <= costs.min() + slack).nonzero()[0])
            best[k, end], start_of[k, end] = costs[first], starts[first]
    cuts, end = list[int](), n
    for k in range(segments, 1, -1):
        end = int(start_of[k, end])
        cuts.append(end)
    return cuts[::-1]


def grid(t_min: float, t_max: float, points: int) -> "Tensor":
    """`points` times t_min + (t_max - t_min) i / points for i = 1 .. points, float64."""
    import torch

    return t_min + (t_max - t_min) * torch.arange(1, points + 1, dtype=torch.float64) / points
