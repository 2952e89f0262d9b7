"""Steps dealt out to stages: a grid that is refined inside each stage, by one sampler or by one for each."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import attrs

from msdk.errors import PartError
from msdk.partition import Partition
from msdk.samplers.base import Denoise, Noise, Sampler
from msdk.schedules.base import Schedule, Time

if TYPE_CHECKING:
    from torch import Tensor


@attrs.frozen
class Window(Schedule):
    """A schedule between two of its times, so that a sampler spaces its grid there alone."""

    whole: Schedule
    low: float
    high: float

    @property
    def default_grid(self) -> str:  # pyright: ignore[reportIncompatibleVariableOverride]  a constant of other schedules
        return self.whole.default_grid

    @property
    def t_min(self) -> float:
        return self.low

    @property
    def t_max(self) -> float:
        return self.high

    @property
    def prior_std(self) -> float:
        return self.whole.prior_std

    def alpha(self, t: Time) -> Time:
        return self.whole.alpha(t)

    def sigma(self, t: Time) -> Time:
        return self.whole.sigma(t)

    def f(self, t: Time) -> Time:
        return self.whole.f(t)

    def g2(self, t: Time) -> Time:
        return self.whole.g2(t)

    def t_of_ratio(self, ratio: Time) -> Time:
        return self.whole.t_of_ratio(ratio)


@attrs.frozen
class Memory:
    """Which stage an interval is in, and what its sampler remembers."""

    stage: int
    inner: Any


@attrs.frozen(kw_only=True)
class Staged(Sampler):
    """Each stage's time is spaced for itself, with its own number of intervals; a grid has a node at every edge.

    One sampler for all stages carries its memory across the edges; samplers of their own begin anew in each stage.

    Args:
        samplers: One for all stages, or one for each, least noise first.
        steps: Intervals in each stage, least noise first.
        partition: The stages.
        schedule: Whose time they cut.
    """

    samplers: tuple[Sampler, ...]
    steps: tuple[int, ...]
    partition: Partition
    schedule: Schedule

    @property
    def order(self) -> int:
        return min(sampler.order for sampler in self.samplers)

    @property
    def adaptive(self) -> bool:  # pyright: ignore[reportIncompatibleVariableOverride]  a constant of other samplers
        return any(sampler.adaptive for sampler in self.samplers)

    @property
    def feeds(self) -> int:  # pyright: ignore[reportIncompatibleVariableOverride]  as above
        return max(sampler.feeds for sampler in self.samplers)

    def of(self, stage: int) -> Sampler:
        """The sampler of a stage."""
        return self.samplers[stage if len(self.samplers) > 1 else 0]

    def check(self, schedule: Schedule, steps: int) -> None:
        stages = len(self.partition)
        if len(self.steps) != stages:
            raise PartError(f"steps_per_stage has {len(self.steps)} numbers for {stages} stages: give one for each")
        if len(self.samplers) not in (1, stages):
            raise PartError(f"{len(self.samplers)} samplers for {stages} stages: give one, or one for each")
        for stage, count in enumerate(self.steps):
            # One sampler's memory reaches over the edges, so all steps count for what it needs.
            self.of(stage).check(schedule, count if len(self.samplers) > 1 else steps)

    def start(self, schedule: Schedule, noise: Noise, like: "Tensor") -> "Tensor":
        return self.of(len(self.steps) - 1).start(schedule, noise, like)

    def times(self, schedule: Schedule, steps: int) -> list[float]:
        parts = [part.times for part in self._parts()]
        return [t for part in parts[:-1] for t in part[:-1]] + parts[-1]

    def calls(self, steps: int) -> list[int]:
        if len(self.samplers) == 1:
            return self.samplers[0].calls(steps)
        return [call for part in self._parts() for call in part.calls]

    def _parts(self) -> "list[Part]":
        """Every stage, most noise first; neighbours share the edge between them."""
        edges = (self.schedule.t_min, *self.partition.edges_t(self.schedule), self.schedule.t_max)
        return [
            _part(self.of(stage), Window(self.schedule, edges[stage], edges[stage + 1]), count, last=stage == 0)
            for stage, count in reversed(list(enumerate(self.steps)))
        ]

    def init(self, times: Sequence[float]) -> Memory:
        return Memory(stage=-1, inner=self.samplers[0].init(times) if len(self.samplers) == 1 else None)

    def step(
        self, denoise: Denoise, schedule: Schedule, x_t: "Tensor", t: float, s: float, memory: Memory, noise: Noise
    ) -> "tuple[Tensor, Memory]":
        stage, inner = self.partition.at(t, schedule), memory.inner
        if len(self.samplers) > 1 and stage != memory.stage:
            inner = self.of(stage).init(self._parts()[len(self.steps) - 1 - stage].times)
        x_s, inner = self.of(stage).step(denoise, schedule, x_t, t, s, inner, noise)
        return x_s, Memory(stage, inner)


@attrs.frozen
class Part:
    """One stage's share of the grid, and the network calls in each of its intervals."""

    times: list[float]
    calls: list[int]


def _part(sampler: Sampler, window: Window, steps: int, *, last: bool) -> Part:
    """A sampler's grid in a window: to the end of its own, or to the lower edge in `steps` intervals."""
    if last:
        return Part(sampler.times(window, steps), sampler.calls(steps))
    for count in (steps, steps + 1):  # some grids have one node more than steps, some as many
        nodes = [t for t in sampler.times(window, count) if t >= window.low]
        if len(nodes) == steps + 1 and nodes[-1] == window.low:
            return Part(nodes, sampler.calls(count)[:steps])
    raise PartError(
        f"the grid of {type(sampler).__name__} cannot be cut at the edges of stages: leave steps_per_stage out, or "
        "choose another sampler or grid"
    )
