"""Which noise levels training draws.

A law is given by its distribution function over `t` and the inverse, so that a draw inside one stage is a draw of a
uniform number between the values at the stage's two edges: exact, with no rejection. Which stage is drawn is a second
choice, `training.stage_draw`.
"""

import abc
import itertools
from typing import TYPE_CHECKING

from msdk.partition import Partition
from msdk.schedules.base import Schedule

if TYPE_CHECKING:
    from torch import Generator, Tensor


class NoiseLevel(abc.ABC):
    """A law of training times. Concrete ones are frozen attrs classes."""

    @abc.abstractmethod
    def cdf(self, schedule: Schedule, t: float) -> float:
        """Probability of a draw at or below `t`."""

    @abc.abstractmethod
    def quantile(self, schedule: Schedule, u: "Tensor") -> "Tensor":
        """The inverse of `cdf`, for float64 `u` of any shape in (0, 1)."""

    def edges(self, schedule: Schedule, partition: Partition) -> list[float]:
        """`cdf` at every stage boundary: 0, the interior edges, 1."""
        return [0.0, *(self.cdf(schedule, t) for t in partition.edges_t(schedule)), 1.0]

    def shares(self, schedule: Schedule, partition: Partition) -> list[float]:
        """The law's own probability of each stage."""
        edges = self.edges(schedule, partition)
        return [high - low for low, high in itertools.pairwise(edges)]

    def draw(self, schedule: Schedule, partition: Partition, stages: "Tensor", generator: "Generator") -> "Tensor":
        """One time per entry of `stages` (int64 [batch], on the CPU), each inside its stage: float64 [batch], CPU."""
        import torch

        edges = torch.tensor(self.edges(schedule, partition), dtype=torch.float64)
        low, high = edges[stages], edges[stages + 1]
        u = torch.rand(stages.shape, generator=generator, dtype=torch.float64)
        return self.quantile(schedule, low + (high - low) * u)


class ShareOfTime(NoiseLevel):
    """A law of the share x of a schedule's time, t = t_min + x (t_max - t_min): stated once for all schedules."""

    @abc.abstractmethod
    def below(self, x: float) -> float:
        """Probability of a share at or below x, for 0 < x < 1."""

    @abc.abstractmethod
    def share(self, u: "Tensor") -> "Tensor":
        """The inverse of `below`."""

    def cdf(self, schedule: Schedule, t: float) -> float:
        x = (t - schedule.t_min) / (schedule.t_max - schedule.t_min)
        return 0.0 if x <= 0 else 1.0 if x >= 1 else self.below(x)

    def quantile(self, schedule: Schedule, u: "Tensor") -> "Tensor":
        return schedule.t_min + self.share(u) * (schedule.t_max - schedule.t_min)
