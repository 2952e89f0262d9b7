"""Time grids: how a sampler spaces its steps between the prior and the data."""

from typing import Literal, get_args

from msdk.errors import PartError
from msdk.schedules.base import Schedule

Grid = Literal[
    "uniform-t",
    "quadratic-t",
    "power-t",
    "uniform-lam",
    "rho",
    "leading",
    "linspace",
    "trailing",
    "ldm-uniform",
    "ldm-quadratic",
]
"""uniform-t: even in time. quadratic-t: even in sqrt(t). power-t: even in t^(1/rho) (DEIS).
uniform-lam: even in log-SNR (DPM-Solver). rho: even in ratio^(1/rho) (EDM, Karras et al. 2022, Eq. 5).
The others are steps of a table, for `vp-discrete` and its like. leading, linspace, trailing: evenly spaced from the
first step, from the first to the last, to the last; the last interval lands on the clean image. ldm-uniform,
ldm-quadratic: latent diffusion's, which end at the table's first step."""

TO_CLEAN = ("leading", "linspace", "trailing")
"""Grids whose last interval lands on the clean image."""

STEPS = ("leading", "linspace", "trailing", "ldm-uniform", "ldm-quadratic")


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


def time_grid(grid: Grid, schedule: Schedule, steps: int, t_end: float, rho: float) -> list[float]:
    """`steps + 1` descending times from `schedule.t_max` to `t_end` (or `schedule.t_min` if that is larger).

    Raises:
        PartError: No steps, or a `t_end` that is not below `t_max`.
    """
    start, end = schedule.t_max, max(t_end, schedule.t_min)
    if steps < 1:
        raise PartError(f"a sampler needs at least 1 step, got {steps}")
    if grid in STEPS:
        return _steps(grid, schedule, steps)
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

    def even(first: float, last: float) -> list[float]:
        return [first + (last - first) * i / steps for i in range(steps + 1)]

    if grid == "uniform-t":
        inner = even(start, end)
    elif grid in ("quadratic-t", "power-t"):
        power = 2.0 if grid == "quadratic-t" else rho
        inner = [root**power for root in even(start ** (1 / power), end ** (1 / power))]
    elif grid == "uniform-lam":
        inner = [schedule.t_of_lam(lam) for lam in even(schedule.lam(start), schedule.lam(end))]
    else:
        roots = even(schedule.ratio(start) ** (1 / rho), schedule.ratio(end) ** (1 / rho))
        inner = [schedule.t_of_ratio(root**rho) for root in roots]
    return [start, *inner[1:-1], end]  # the ends exactly, whatever the inverse rounds to


def _steps(grid: Grid, schedule: Schedule, count: int) -> list[float]:
    """Times of steps of a table, descending, and then where the last interval ends.

    Raises:
        PartError: The schedule has no table, or fewer steps than are wanted.
    """
    total = getattr(schedule, "steps", None)
    if not isinstance(total, int):
        raise PartError(
            f"the grid {grid} is of a table of steps, and {type(schedule).__name__} has none: use vp-discrete, "
            "vp-scaled-linear or vp-iddpm-cosine, or another grid"
        )
    if count > total:
        raise PartError(f"{count} steps are more than the {total} that the schedule has")
    stride = total // count
    if grid in ("leading", "ldm-uniform"):
        chosen = [index * stride for index in range(count)]
    elif grid == "trailing":
        chosen = sorted({round(total - index * total / count) - 1 for index in range(count)})
    elif grid == "linspace":
        chosen = sorted({round(index * (total - 1) / max(count - 1, 1)) for index in range(count)})
    else:
        chosen = sorted({int((index * (0.8 * total) ** 0.5 / max(count - 1, 1)) ** 2) for index in range(count)})
    ldm = grid.startswith("ldm")
    nodes = [(index + ldm + 1) / total for index in reversed(chosen)]
    return [*nodes, 1 / total if ldm else 0.0]
