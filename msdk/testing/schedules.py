"""Laws of noise schedules."""

import itertools
import math

import torch

from msdk.errors import PartError
from msdk.partition import Partition
from msdk.recipe.fields import suited_noise
from msdk.registry import registry_of
from msdk.schedules.base import Schedule
from msdk.testing.laws import COMMON, require

FRACTIONS = (0.001, 0.01, 0.0371, 0.1, 0.2503, 0.5, 0.7177, 0.9, 0.99, 1.0)
"""Of the way from t_min to t_max; odd ones, as a table may have kinks at round ones."""


CONTINUOUS = ("uniform-t", "quadratic-t", "power-t", "uniform-lam", "rho")
"""Grids that any schedule can have, with any number of steps."""


def times_of(schedule: Schedule) -> list[float]:
    """Some times, ascending."""
    return [schedule.t_min + fraction * (schedule.t_max - schedule.t_min) for fraction in FRACTIONS]


def alpha_falls_and_sigma_rises(schedule: Schedule) -> None:
    """More time never means more signal, and always more noise; ratio and lam order times alike."""
    require(0 <= schedule.t_min < schedule.t_max, f"t_min = {schedule.t_min} is not below t_max = {schedule.t_max}")
    count = 200
    times = [schedule.t_min + (schedule.t_max - schedule.t_min) * i / count for i in range(1, count + 1)]
    for t, s in itertools.pairwise(times):
        require(schedule.alpha(t) >= schedule.alpha(s) > 0, f"alpha rises, or is not positive, between {t} and {s}")
        require(0 < schedule.sigma(t) < schedule.sigma(s), f"sigma does not rise between {t} and {s}")
        require(schedule.ratio(t) < schedule.ratio(s), f"ratio does not rise between {t} and {s}")
        require(schedule.lam(t) > schedule.lam(s), f"lam does not fall between {t} and {s}")


def inverses_round_trip(schedule: Schedule) -> None:
    """`t_of_ratio` and `t_of_lam` undo `ratio` and `lam`, for floats and for tensors."""
    for t in times_of(schedule):
        for name, back in (
            ("t_of_ratio", schedule.t_of_ratio(schedule.ratio(t))),
            ("t_of_lam", schedule.t_of_lam(schedule.lam(t))),
        ):
            require(math.isclose(back, t, rel_tol=1e-9), f"{name} gives {back} for the time {t}")
    tensor = torch.tensor(times_of(schedule), dtype=torch.float64)
    back = schedule.t_of_ratio(schedule.ratio(tensor))
    require(torch.allclose(back, tensor, rtol=1e-9, atol=0), "t_of_ratio does not undo ratio for tensors")


def floats_and_tensors_agree(schedule: Schedule) -> None:
    """A float64 tensor gives what the float gives, in its own shape and type."""
    for name in ("alpha", "sigma", "ratio", "lam"):
        function = getattr(schedule, name)
        for t in times_of(schedule):
            found = function(torch.full((2, 3), t, dtype=torch.float64))
            require(
                (found.dtype, tuple(found.shape)) == (torch.float64, (2, 3)),
                f"{name} of a float64 tensor [2, 3] is {found.dtype} {tuple(found.shape)}",
            )
            require(isinstance(function(t), float), f"{name} of a float is a {type(function(t)).__name__}")
            require(
                math.isclose(float(found[1, 2]), function(t), rel_tol=1e-12, abs_tol=1e-300),
                f"{name}({t}) is {function(t)} for a float and {float(found[1, 2])} for a tensor",
            )


def the_prior_is_the_noise_of_the_last_time(schedule: Schedule) -> None:
    """Samplers start from normal noise of `prior_std`, which is to be what is left at t_max."""
    last = schedule.sigma(schedule.t_max)
    require(
        math.isclose(schedule.prior_std, last, rel_tol=1e-3),
        f"prior_std is {schedule.prior_std}, but the noise at t_max = {schedule.t_max} has a deviation of {last}",
    )


def drift_and_diffusion_are_the_derivatives(schedule: Schedule) -> None:
    """F = d log alpha / dt and g2 = d sigma^2 / dt - 2 f sigma^2, for schedules that have them.

    Those whose network reads a clock of its own, or whose state is more than the image, override both with a reason.
    """
    try:
        schedule.f(schedule.t_max)
    except PartError:
        return
    for t in times_of(schedule)[1:-1]:
        h = 1e-6 * t
        drift = (math.log(schedule.alpha(t + h)) - math.log(schedule.alpha(t - h))) / (2 * h)
        growth = (schedule.sigma(t + h) ** 2 - schedule.sigma(t - h) ** 2) / (2 * h)
        diffusion = growth - 2 * drift * schedule.sigma(t) ** 2
        for name, found, wanted in (("f", schedule.f(t), drift), ("g2", schedule.g2(t), diffusion)):
            require(
                math.isclose(found, wanted, rel_tol=1e-3, abs_tol=1e-5),
                f"{name}({t}) is {found}, but the derivative is {wanted}",
            )


def own_grid_and_law_suit_its_time(schedule: Schedule) -> None:
    """`default_grid` and `default_noise` leave out neither images with little noise nor noise with little image.

    Of twenty network calls at least one, and of what training draws at least 5 %, lie where the ratio is below 1, and
    as much above. A schedule whose time is a noise level must say what suits it: nearly all of its time is noise.
    """
    own = schedule.default_grid
    require(own in CONTINUOUS, f"default_grid is '{own}', which is none of {', '.join(CONTINUOUS)}")
    times: list[float] = registry_of("sampler").get("msdk:ddim")().times(schedule, 20)
    law, partition = suited_noise(schedule), Partition((1.0,))
    called = {partition.at(t, schedule) for t in times[:-1]}
    for stage, (share, where) in enumerate(zip(law.shares(schedule, partition), ("below", "above"), strict=True)):
        require(stage in called, f"none of 20 calls on the grid {own} has a ratio {where} 1: set default_grid")
        enough = share >= 0.05 or not schedule.trainable
        require(enough, f"training by {law} has {100 * share:.2g} % of its ratios {where} 1: set default_noise")


LAWS = (
    *COMMON,
    alpha_falls_and_sigma_rises,
    inverses_round_trip,
    floats_and_tensors_agree,
    the_prior_is_the_noise_of_the_last_time,
    drift_and_diffusion_are_the_derivatives,
    own_grid_and_law_suit_its_time,
)
