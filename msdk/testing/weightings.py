"""Laws of loss weights. Options: `schedule`, VP where none is given; `closed_form(ratio)`, what the weight is to be."""

import math
from collections.abc import Callable

import torch

from msdk.schedules.base import Schedule
from msdk.schedules.vp import VPLinear
from msdk.testing.laws import COMMON, require
from msdk.weightings.base import Weighting

VP = VPLinear()
RATIOS = torch.logspace(-2, 1.5, 50, dtype=torch.float64)
ClosedForm = Callable[[float], float]


def weights_are_positive(
    weighting: Weighting, *, schedule: Schedule = VP, closed_form: ClosedForm | None = None
) -> None:
    """Every noise level counts, by a finite amount."""
    for t in schedule.t_of_ratio(RATIOS).tolist():
        weight = weighting.weight(schedule, t)
        require(0 < weight < math.inf, f"the weight at t = {t} is {weight}")


def floats_and_tensors_agree(
    weighting: Weighting, *, schedule: Schedule = VP, closed_form: ClosedForm | None = None
) -> None:
    """A float's weight is a float64 tensor's."""
    times = schedule.t_of_ratio(RATIOS)
    tensors = weighting.weight(schedule, times)
    require(tensors.shape == times.shape, f"the weights of {len(times)} times have the shape {tuple(tensors.shape)}")
    for index, t in enumerate(times.tolist()):
        one, other = weighting.weight(schedule, t), float(tensors[index])
        require(math.isclose(one, other, rel_tol=1e-11), f"at t = {t} it is {one} for a float, {other} for a tensor")


def it_is_its_closed_form(
    weighting: Weighting, *, schedule: Schedule = VP, closed_form: ClosedForm | None = None
) -> None:
    """The weight is a function of the ratio alone: the one that is given, or the same under another schedule."""
    for ratio in RATIOS.tolist():
        found = weighting.weight(schedule, schedule.t_of_ratio(ratio))
        if closed_form is not None:
            wanted = closed_form(ratio)
            require(
                math.isclose(found, wanted, rel_tol=1e-9), f"at ratio {ratio} it is {found}, the closed form {wanted}"
            )


LAWS = (*COMMON, weights_are_positive, floats_and_tensors_agree, it_is_its_closed_form)
