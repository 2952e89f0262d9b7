"""Laws of samplers. Options: `schedule`, VP where none is given, and `steps`."""

import math
from typing import Any

import attrs
import torch

from msdk.errors import PartError
from msdk.samplers.base import Sampler, call_times
from msdk.schedules.base import Schedule
from msdk.schedules.vp import VPLinear
from msdk.testing import problems
from msdk.testing.laws import COMMON, LawError, require

VP = VPLinear()


def _allowed(sampler: Sampler, schedule: Schedule, steps: int) -> None:
    try:
        sampler.check(schedule, steps)
        sampler.times(schedule, steps)
    except PartError as error:
        raise LawError(f"it does not run {schedule} in {steps} steps, so pass schedule= and steps=: {error}") from error


def declared_calls_are_made(sampler: Sampler, *, schedule: Schedule = VP, steps: int = 24) -> None:
    """A budget may trust `calls`: it lists exactly the network calls of each interval, all within the schedule."""
    _allowed(sampler, schedule, steps)
    times = sampler.times(schedule, steps)
    made = call_times(sampler, schedule, steps)
    declared = sampler.calls(sampler.intervals(schedule, steps))
    counts = [len(interval) for interval in made]
    require(len(times) == len(made) + 1, f"there are {len(times)} times for {len(made)} intervals")
    if sampler.adaptive:
        fewer = [count for least, count in zip(declared, counts, strict=True) if count < least]
        require(not fewer, f"`calls` declares at least {declared}, but {counts} were made")
    else:
        require(declared == counts, f"`calls` declares {declared}, but {counts} were made")
    require(times[0] == schedule.t_max, f"the first time is {times[0]}, not t_max = {schedule.t_max}")
    require(times == sorted(set(times), reverse=True), "times do not fall")
    low, high = schedule.t_min - 1e-9, schedule.t_max + 1e-9
    outside = [t for interval in made for t in interval if not low <= t <= high]
    require(not outside, f"the network is called at {outside[:3]}, outside of the schedule")


def order_is_the_declared_one(sampler: Sampler, *, schedule: Schedule = VP, steps: int = 80) -> None:
    """Twice as many steps divide the error by 2^order, on an even grid in log-SNR, where nothing is random.

    The share of noise that is renewed, `eta`, is set to 0 for it.
    """
    if sampler.adaptive or not hasattr(sampler, "grid") or (sampler.stochastic and not hasattr(sampler, "eta")):
        return
    _allowed(sampler, schedule, steps)
    even: Any = attrs.evolve(sampler, grid="uniform-lam", **{"eta": 0.0} if hasattr(sampler, "eta") else {})
    errors: list[float] = []
    for count in (steps, 2 * steps):
        times = [t for t in even.times(schedule, count) if t > 0]
        x, exact = problems.mixture_flow(schedule, times[-1])
        errors.append(
            float((problems.sampled(even, schedule, times, problems.mixture_mean, x) - exact).square().mean())
        )
    measured = math.log2(errors[0] / errors[1]) / 2
    declared = even.convergence
    require(measured > declared - 0.3, f"declared order {declared}, measured {measured:.2f}")
    # Where orders vary from step to step, more may be measured.
    most = max(even.order, declared) + (0.3 if even.order <= 2 else 1.2)
    require(measured < most, f"declared order {even.order}, measured {measured:.2f}: declare more")


def noise_becomes_data(sampler: Sampler, *, schedule: Schedule = VP, steps: int = 200) -> None:
    """Around the exact denoiser of a normal law: its flow, point by point, or the law itself where noise is added."""
    _allowed(sampler, schedule, steps)
    times = sampler.times(schedule, steps)
    generator = torch.Generator().manual_seed(3)
    count = 1 if sampler.adaptive else 64
    x = schedule.prior_std * torch.randn(count, 256, generator=generator, dtype=torch.float64)
    found = problems.sampled(sampler, schedule, times, problems.gaussian_mean, x)
    last = max(times[-1], schedule.t_min)
    if not sampler.stochastic:
        error = float((found - problems.gaussian_flow(schedule, x, last)).abs().max())
        require(error < 0.05, f"after {steps} steps a point is {error:.3f} away from where the exact flow takes it")
        return
    mean, std = float(found.mean()), float(found.std())
    wanted_mean = schedule.alpha(last) * problems.GAUSSIAN_MEAN
    wanted = math.hypot(schedule.alpha(last) * problems.GAUSSIAN_STD, schedule.sigma(last))
    require(abs(mean - wanted_mean) < 0.06, f"samples have a mean of {mean:.3f}, the data {wanted_mean:.3f}")
    require(abs(std - wanted) < 0.06, f"samples have a deviation of {std:.3f}, the data {wanted:.3f}")


def a_seed_decides(sampler: Sampler, *, schedule: Schedule = VP, steps: int = 24) -> None:
    """The same start and noise give the same sample; memory is passed on, and none stays in the sampler."""
    _allowed(sampler, schedule, steps)
    x = schedule.prior_std * torch.randn(1, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    times = sampler.times(schedule, steps)
    one, other = (problems.sampled(sampler, schedule, times, problems.gaussian_mean, x) for _ in range(2))
    require(torch.equal(one, other), "two runs with the same noise differ")


def refuses_in_words(sampler: Sampler, *, schedule: Schedule = VP, steps: int = 0) -> None:
    """No steps are refused with a `PartError` that says what would do."""
    try:
        sampler.check(schedule, 0)
        sampler.times(schedule, 0)
    except PartError as error:
        require(len(str(error)) > 15, f"0 steps are refused with nothing but {str(error)!r}")
    except Exception as error:
        raise LawError(f"0 steps raise {type(error).__name__}: {error}; raise PartError with the reason") from error
    else:
        require(sampler.adaptive, "0 steps are not refused")


LAWS = (
    *COMMON,
    declared_calls_are_made,
    order_is_the_declared_one,
    noise_becomes_data,
    a_seed_decides,
    refuses_in_words,
)
