"""Stages of time: an ordered, gap-free cover of the noise ratio sigma/alpha.

Edges live in `ratio`, because only there do noise schedules agree: an edge found under one schedule means the same
signal-to-noise level under another. One `Partition` serves training, sampling, counting and export.
"""

import bisect
import itertools
import math
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, overload

import attrs

from msdk.errors import PartError, quoted

if TYPE_CHECKING:
    from torch import Tensor

_Time = TypeVar("_Time", float, "Tensor")

_ROUNDING = 1e-12
"""Relative error that the way from a ratio to a time and back may have, in float64."""


class _HasRatio(Protocol):
    """What a partition needs of a noise schedule."""

    @property
    def t_min(self) -> float: ...
    @property
    def t_max(self) -> float: ...
    def ratio(self, t: _Time) -> _Time: ...
    def t_of_ratio(self, ratio: float) -> float: ...


@attrs.frozen
class Stage:
    """One stage covers `(low, high]` in ratio; stage 0 includes 0, the last stage is unbounded above."""

    index: int
    low: float
    high: float


def _listed(edges: Iterable[float]) -> tuple[float, ...]:
    given: Any = edges  # whatever somebody wrote
    found: tuple[Any, ...] = tuple(given) if isinstance(given, Iterable) else (given,)
    if not isinstance(given, Iterable) or not all(hasattr(type(edge), "__float__") for edge in found):
        raise PartError(f"stage edges are a list of ratios, got {quoted(given)}")
    return found


def _ascending(_: object, __: object, edges: tuple[float, ...]) -> None:
    for edge in edges:
        if not (math.isfinite(edge) and edge > 0):
            raise PartError(f"a stage edge must be a finite ratio above 0, got {edge}")
    for low, high in itertools.pairwise(edges):
        if low >= high:
            raise PartError(f"stage edges must ascend, but {low} comes before {high}")


@attrs.frozen
class Partition:
    """Interior edges, ascending in ratio; stage k covers `(edge_k, edge_k+1]`, so an edge belongs to the lower stage.

    Args:
        edges: Interior edges in ratio = sigma/alpha. None means one stage.

    Raises:
        PartError: Edges that do not ascend, or are not finite and positive.
    """

    edges: tuple[float, ...] = attrs.field(default=(), converter=_listed, validator=_ascending)

    @classmethod
    def of_times(cls, edges_t: Sequence[float], schedule: _HasRatio) -> "Partition":
        """Edges given as times of a schedule.

        Raises:
            PartError: A time outside the schedule, or times that do not ascend.
        """
        for edge in edges_t:
            if not schedule.t_min < edge < schedule.t_max:
                raise PartError(f"the edge t = {edge} lies outside the schedule's ({schedule.t_min}, {schedule.t_max})")
        for low, high in itertools.pairwise(edges_t):
            if low >= high:
                raise PartError(f"stage edges must ascend, but {low} comes before {high}")
        return cls(tuple(schedule.ratio(edge) for edge in edges_t))

    def __len__(self) -> int:
        return len(self.edges) + 1

    @property
    def stages(self) -> tuple[Stage, ...]:
        """All stages, from the one nearest the data to the one nearest pure noise."""
        bounds = (0.0, *self.edges, math.inf)
        return tuple(Stage(k, low, high) for k, (low, high) in enumerate(itertools.pairwise(bounds)))

    @overload
    def of(self, ratio: float) -> int: ...
    @overload
    def of(self, ratio: "Tensor") -> "Tensor": ...
    def of(self, ratio: "float | Tensor") -> "int | Tensor":
        """Stage index of a ratio: an int for a float, an int64 tensor of the same shape for a tensor.

        A tensor is compared with each edge on its own device, so nothing synchronises.
        """
        if isinstance(ratio, (int, float)):
            if math.isnan(ratio) or ratio < 0:
                raise PartError(f"no stage has the ratio {ratio}: it must be 0 or above")
            return bisect.bisect_left(self.edges, ratio)
        index = (ratio != ratio).long() * 0  # zeros of the same shape, device and layout, without importing torch
        for edge in self.edges:
            index = index + (ratio > edge).long()
        return index

    @overload
    def at(self, t: float, schedule: _HasRatio) -> int: ...
    @overload
    def at(self, t: "Tensor", schedule: _HasRatio) -> "Tensor": ...
    def at(self, t: Any, schedule: _HasRatio) -> Any:
        """Stage index of a time of a schedule, as `of` gives it for a ratio.

        The ratio of a time is rounded, and not alike for floats and tensors, so a hair below it decides: the time of an
        edge lies in the lower stage whichever way it was computed.
        """
        below: float = schedule.ratio(t) * (1 - _ROUNDING)
        return self.of(below)

    def edges_t(self, schedule: _HasRatio) -> tuple[float, ...]:
        """The interior edges as times of a schedule."""
        return tuple(schedule.t_of_ratio(edge) for edge in self.edges)

    def times(self, schedule: _HasRatio) -> tuple[tuple[float, float], ...]:
        """`(low, high)` of every stage as times of a schedule, from `t_min` to `t_max` without a gap."""
        return tuple(itertools.pairwise((schedule.t_min, *self.edges_t(schedule), schedule.t_max)))

    def check_within(self, schedule: _HasRatio) -> None:
        """Raises `PartError` where an edge lies outside what the schedule reaches."""
        low, high = schedule.ratio(schedule.t_min), schedule.ratio(schedule.t_max)
        for edge in self.edges:
            if not low < edge < high:
                raise PartError(
                    f"the edge ratio {edge:.6g} lies outside the schedule's ({low:.6g}, {high:.6g}), "
                    "so one stage would never be reached"
                )
