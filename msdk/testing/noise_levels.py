"""Laws of training times. Option: `schedule`, VP where none is given."""

import torch

from msdk.noise_levels.base import NoiseLevel
from msdk.partition import Partition
from msdk.schedules.base import Schedule
from msdk.schedules.vp import VPLinear
from msdk.testing.laws import COMMON, require

VP = VPLinear()
PARTITION = Partition((2.5, 7.6))


def cdf_and_quantile_are_inverse(law: NoiseLevel, *, schedule: Schedule = VP) -> None:
    """The time below which a share u of the draws lies has the probability u."""
    u = torch.linspace(0.01, 0.99, 99, dtype=torch.float64)
    times = law.quantile(schedule, u)
    require(bool((times.diff() > 0).all()), "quantiles do not rise")
    for t, share in zip(times.tolist(), u.tolist(), strict=True):
        found = law.cdf(schedule, t)
        require(abs(found - share) < 1e-8, f"the time {t} is the quantile of {share}, but its probability is {found}")


def cdf_is_a_probability(law: NoiseLevel, *, schedule: Schedule = VP) -> None:
    """From t_min to t_max it lies in [0, 1] and never falls."""
    times = torch.linspace(schedule.t_min, schedule.t_max, 101, dtype=torch.float64).tolist()
    values = [law.cdf(schedule, t) for t in times]
    require(values == sorted(values), "the distribution function falls")
    require(values[0] >= 0 and values[-1] <= 1, f"it runs from {values[0]} to {values[-1]}, outside of [0, 1]")


def draws_fall_inside_their_stage(law: NoiseLevel, *, schedule: Schedule = VP) -> None:
    """A time drawn for a stage belongs to it; the same generator state draws the same times, as float64."""
    stages = torch.arange(3).repeat(500)
    times, again = (law.draw(schedule, PARTITION, stages, torch.Generator().manual_seed(0)) for _ in range(2))
    require(times.dtype == torch.float64, f"times are {times.dtype}, not float64")
    require(torch.equal(PARTITION.at(times, schedule), stages), "times lie outside of the stage they were drawn for")
    require(torch.equal(times, again), "the same generator state draws other times")


def shares_are_those_of_draws(law: NoiseLevel, *, schedule: Schedule = VP) -> None:
    """Shares of stages sum to 1 and match the stages of draws that know none, within 5 standard errors."""
    shares, draws = law.shares(schedule, PARTITION), 20_000
    require(abs(sum(shares) - 1) < 1e-9, f"the shares {shares} sum to {sum(shares)}")
    nowhere = torch.zeros(draws, dtype=torch.long)
    times = law.draw(schedule, Partition(), nowhere, torch.Generator().manual_seed(1))
    counts = torch.bincount(PARTITION.at(times, schedule), minlength=3).tolist()
    for share, count in zip(shares, counts, strict=True):
        error = 5 * (share * (1 - share) / draws) ** 0.5 + 1e-9
        require(
            abs(count / draws - share) <= error, f"a stage has a share of {share}, and {count / draws} of the draws"
        )


LAWS = (
    *COMMON,
    cdf_and_quantile_are_inverse,
    cdf_is_a_probability,
    draws_fall_inside_their_stage,
    shares_are_those_of_draws,
)
