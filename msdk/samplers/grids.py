"""Time grids: how a sampler spaces its steps between the prior and the data."""

from typing import Literal

from msdk.errors import PartError
from msdk.schedules.base import Schedule

Grid = Literal["uniform-t", "quadratic-t", "uniform-lam", "rho"]
"""uniform-t: even in time. quadratic-t: even in sqrt(t). uniform-lam: even in log-SNR (DPM-Solver).
rho: even in ratio^(1/rho) (EDM, Karras et al. 2022, Eq. 5)."""


def time_grid(grid: Grid, schedule: Schedule, steps: int, t_end: float, rho: float) -> list[float]:
    """`steps + 1` descending times from `schedule.t_max` to `t_end` (or `schedule.t_min` if that is larger).

    Raises:
        PartError: No steps, or a `t_end` that is not below `t_max`.
    """
    start, end = schedule.t_max, max(t_end, schedule.t_min)
    if steps < 1:
        raise PartError(f"a sampler needs at least 1 step, got {steps}")
    if end >= start:
        raise PartError(f"t_end = {t_end} must be below the schedule's t_max = {start}")
    return spaced(grid, schedule, start, end, steps, rho)


def spaced(grid: Grid, schedule: Schedule, start: float, end: float, steps: int, rho: float) -> list[float]:
    """`steps + 1` descending times from `start` to `end`, both exactly."""

    def even(first: float, last: float) -> list[float]:
        return [first + (last - first) * i / steps for i in range(steps + 1)]

    if grid == "uniform-t":
        inner = even(start, end)
    elif grid == "quadratic-t":
        inner = [root * root for root in even(start**0.5, end**0.5)]
    elif grid == "uniform-lam":
        inner = [schedule.t_of_lam(lam) for lam in even(schedule.lam(start), schedule.lam(end))]
    else:
        roots = even(schedule.ratio(start) ** (1 / rho), schedule.ratio(end) ** (1 / rho))
        inner = [schedule.t_of_ratio(root**rho) for root in roots]
    return [start, *inner[1:-1], end]  # the ends exactly, whatever the inverse rounds to
