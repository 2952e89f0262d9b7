"""Laws of learning-rate schedules."""

import math

from msdk.lr_schedules.base import LRSchedule
from msdk.testing.laws import COMMON, require

ITERATIONS = 1000


def factors_are_finite(schedule: LRSchedule) -> None:
    """From the first step to beyond the last, never negative."""
    for iteration in (0, 1, ITERATIONS // 2, ITERATIONS - 1, ITERATIONS, 2 * ITERATIONS):
        factor = schedule.factor(iteration, ITERATIONS)
        require(0 <= factor < math.inf, f"the factor of step {iteration} of {ITERATIONS} is {factor}")
    require(any(schedule.factor(i, ITERATIONS) > 0 for i in range(ITERATIONS)), "the learning rate is 0 throughout")


def steps_may_be_asked_in_any_order(schedule: LRSchedule) -> None:
    """A resumed run begins in the middle: the factor of a step is that of the step, whatever was asked before."""
    forward = [schedule.factor(i, ITERATIONS) for i in range(0, ITERATIONS, 50)]
    backward = [schedule.factor(i, ITERATIONS) for i in reversed(range(0, ITERATIONS, 50))]
    require(forward == backward[::-1], "the factor of a step depends on which steps were asked for before")


LAWS = (*COMMON, factors_are_finite, steps_may_be_asked_in_any_order)
