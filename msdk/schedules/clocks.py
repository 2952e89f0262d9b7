"""Scales on which times are spaced evenly: grids of samplers that any schedule has, and how clusterings see time."""

from typing import TYPE_CHECKING, Any

import attrs

from msdk.schedules.base import Schedule

if TYPE_CHECKING:
    from torch import Tensor

RHO = 7.0
"""Exponent of EDM's own grid, Karras et al. 2022, arXiv 2206.00364, appendix D.1."""


@attrs.frozen
class Clock:
    """A reading for every time, and the time of every reading; floats or tensors.

    Args:
        grid: "uniform-t" reads t, "quadratic-t" t^(1/2), "power-t" t^(1/rho), "uniform-lam" lam, "rho" ratio^(1/rho).
        schedule: Whose time.
        rho: Exponent of "power-t" and "rho".
    """

    grid: str
    schedule: Schedule
    rho: float = RHO

    @classmethod
    def of(cls, schedule: Schedule) -> "Clock":
        """A schedule's own clock, by its `default_grid`; even in t where that is none that any schedule has."""
        return cls(schedule.default_grid, schedule)

    def reading(self, t: Any) -> Any:
        """Of a time."""
        if self.grid in ("quadratic-t", "power-t"):
            return t ** (1 / self._power())
        if self.grid == "uniform-lam":
            return self.schedule.lam(t)
        return self.schedule.ratio(t) ** (1 / self.rho) if self.grid == "rho" else t

    def time(self, reading: Any) -> Any:
        """At a reading."""
        if self.grid in ("quadratic-t", "power-t"):
            return reading ** self._power()
        if self.grid == "uniform-lam":
            return self.schedule.t_of_lam(reading)
        return self.schedule.t_of_ratio(reading**self.rho) if self.grid == "rho" else reading

    def between(self, low: float, high: float, shares: "Tensor") -> "Tensor":
        """Times at shares of the way from one time to another, by this clock."""
        first, last = self.reading(low), self.reading(high)
        return self.time(first + (last - first) * shares)

    def _power(self) -> float:
        return 2.0 if self.grid == "quadratic-t" else self.rho
