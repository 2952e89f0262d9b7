"""Time grids: how a sampler spaces its steps between the prior and the data."""

import itertools
from typing import Literal, get_args

from msdk.errors import PartError
from msdk.schedules.base import Schedule
from msdk.schedules.clocks import Clock

Grid = Literal[
    "uniform-t",
    "quadratic-t",
    "power-t",
    "uniform-lam",
    "rho",
    "leading",
    "linspace",
    "trailing",
    "strided",
    "respaced",
    "ldm-uniform",
    "ldm-quadratic",
]
"""uniform-t: even in time. quadratic-t: even in sqrt(t). power-t: even in t^(1/rho) (DEIS).
uniform-lam: even in log-SNR (DPM-Solver). rho: even in ratio^(1/rho) (EDM, Karras et al. 2022, Eq. 5).
The others are steps of a table, for `vp-discrete` and its like, to the last digit those of their programs. leading,
linspace, trailing (diffusers): evenly spaced from the first step, from the first to the last, to the last; the last
interval lands on the clean image. strided, respaced (guided-diffusion's "ddimN" and "N"): likewise from the first, and
from the first to the last; strided needs a whole stride that makes as many steps. ldm-uniform, ldm-quadratic: latent
diffusion's, which end at the table's first step. ldm-uniform has the stride total // steps, and so more intervals than
steps where these do not divide the table: 16 for 15 of 1000. ldm-quadratic names its first steps more than once, from
30 of 1000 steps on; `ddim`, `ddpm` and `plms` follow it, other samplers drop the repeated steps."""

TO_CLEAN = ("leading", "linspace", "trailing", "strided", "respaced")
"""Grids whose last interval lands on the clean image."""

STEPS = (*TO_CLEAN, "ldm-uniform", "ldm-quadratic")
"""Grids of a table: steps may make another number of intervals, see `Sampler.intervals`."""


def grid_of(grid: Grid | None, schedule: Schedule) -> Grid:
    """The grid itself, or where none is named the one that suits the schedule, `Schedule.default_grid`.

    Raises:
        PartError: The schedule names one that does not exist.
    """
    if grid is not None:
        return grid
    own, known = schedule.default_grid, get_args(Grid)
    if own not in known:
        raise PartError(f"{type(schedule).__name__}'s default_grid is '{own}', which is none of {', '.join(known)}")
    return known[known.index(own)]


def time_grid(
    grid: Grid, schedule: Schedule, steps: int, t_end: float, rho: float, *, repeats: bool = False
) -> list[float]:
    """`steps + 1` descending times from `schedule.t_max` to `t_end` (or `schedule.t_min` if that is larger).

    Grids of a table may have another number of times, and start below `t_max`; with `repeats`, a time more than once.

    Raises:
        PartError: No steps, or a `t_end` that is not below `t_max`.
    """
    start, end = schedule.t_max, max(t_end, schedule.t_min)
    if steps < 1:
        raise PartError(f"a sampler needs at least 1 step, got {steps}")
    if grid in STEPS:
        nodes = _steps(grid, schedule, steps)
        return nodes if repeats else [t for t, _ in itertools.groupby(nodes)]
    if end >= start:
        raise PartError(f"t_end = {t_end} must be below the schedule's t_max = {start}")
    return spaced(grid, schedule, start, end, steps, rho)


def to_clean(grid: Grid, schedule: Schedule, steps: int, t_end: float, rho: float) -> list[float]:
    """`steps + 1` descending times from `schedule.t_max` to the clean image at 0.0, whose last interval is a step too.

    Steps of a table may land there by themselves.

    Raises:
        PartError: As of `time_grid`.
    """
    if grid in TO_CLEAN:
        return time_grid(grid, schedule, steps, t_end, rho)
    if steps == 1:
        return [schedule.t_max, 0.0]
    return then_clean(time_grid(grid, schedule, steps - 1, t_end, rho), grid)


def then_clean(nodes: list[float], grid: Grid) -> list[float]:
    """A grid's times, and then the clean image.

    Raises:
        PartError: The grid lands there by itself.
    """
    if grid in TO_CLEAN:
        raise PartError(
            f"final_denoise adds an interval to the clean image, where the grid {grid} lands by itself: set "
            "final_denoise = false, or choose another grid"
        )
    return [*nodes, 0.0]


def spaced(grid: Grid, schedule: Schedule, start: float, end: float, steps: int, rho: float) -> list[float]:
    """`steps + 1` descending times from `start` to `end`, both exactly."""
    clock = Clock(grid, schedule, rho)
    first, last = clock.reading(start), clock.reading(end)
    inner = [clock.time(first + (last - first) * i / steps) for i in range(steps + 1)]
    return [start, *inner[1:-1], end]  # the ends exactly, whatever the inverse rounds to


def _steps(grid: Grid, schedule: Schedule, count: int) -> list[float]:
    """Times of steps of a table, descending, and then where the last interval ends.

    Raises:
        PartError: The schedule has no table, or the grid cannot have so many steps.
    """
    total = getattr(schedule, "steps", None)
    if not isinstance(total, int):
        raise PartError(
            f"the grid {grid} is of a table of steps, and {type(schedule).__name__} has none: use vp-discrete, "
            "vp-scaled-linear or vp-iddpm-cosine, or another grid"
        )
    if count > total:
        raise PartError(f"{count} steps are more than the {total} that the schedule has")
    ldm = grid.startswith("ldm")
    chosen = _chosen(grid, total, count)
    if ldm and chosen[-1] + 1 == total:
        raise PartError(
            f"the grid {grid} of {count} steps begins one step beyond the {total} of the table, as latent diffusion's "
            "program does, which fails: use another number of steps, or another grid"
        )
    nodes = [(step + ldm + 1) / total for step in reversed(chosen)]
    return [*nodes, 1 / total if ldm else 0.0]


def _chosen(grid: Grid, total: int, count: int) -> list[int]:
    """Numbers of steps, ascending, rounded as the programs round them."""
    if grid == "leading":
        return [index * (total // count) for index in range(count)]
    import numpy as np

    if grid == "linspace":
        return np.linspace(0, total - 1, count).round().astype(int).tolist()
    if grid == "trailing":  # a sum may be rounded into one step more than there are
        return (np.arange(total, 0, -total / count).round()[:count].astype(int) - 1).tolist()[::-1]
    if grid == "strided":
        return list(range(0, total, _stride(total, count)))
    if grid == "respaced":
        pace = (total - 1) / (count - 1) if count > 1 else 1.0
        return [round(place) for place in itertools.accumulate([0.0, *[pace] * (count - 1)])]
    if grid == "ldm-uniform":
        return list(range(0, total, total // count))
    return (np.linspace(0, np.sqrt(total * 0.8), count) ** 2).astype(int).tolist()


def _stride(total: int, count: int) -> int:
    """The smallest whole stride that makes so many steps.

    Raises:
        PartError: There is none.
    """
    for stride in range(1, total):
        if len(range(0, total, stride)) == count:
            return stride
    near = sorted({len(range(0, total, stride)) for stride in range(1, total)}, key=lambda made: abs(made - count))[:2]
    raise PartError(
        f"no whole stride makes {count} of {total} steps: use {' or '.join(map(str, sorted(near)))}, or another grid"
    )
