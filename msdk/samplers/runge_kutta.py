"""The adaptive Runge-Kutta method of Dormand and Prince."""

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from msdk.samplers.step_size import Past, StepSize

if TYPE_CHECKING:
    from torch import Tensor

NODES = (0.0, 1 / 5, 3 / 10, 4 / 5, 8 / 9, 1.0)
ROWS = (
    (),
    (1 / 5,),
    (3 / 40, 9 / 40),
    (44 / 45, -56 / 15, 32 / 9),
    (19372 / 6561, -25360 / 2187, 64448 / 6561, -212 / 729),
    (9017 / 3168, -355 / 33, 46732 / 5247, 49 / 176, -5103 / 18656),
)
WEIGHTS = (35 / 384, 0.0, 500 / 1113, 125 / 192, -2187 / 6784, 11 / 84)
ERRORS = (-71 / 57600, 0.0, 71 / 16695, -71 / 1920, 17253 / 339200, -22 / 525, 1 / 40)
"""Weights of the difference between orders 5 and 4."""


def scipys_steps(tolerance: float) -> StepSize:
    """The step control of scipy's RK45: rms(error / (tolerance + tolerance max(|y|, |y new|))) <= 1, over all of y."""
    return StepSize(
        order=5,
        atol=tolerance,
        rtol=tolerance,
        scale="sum",
        least=0.2,
        most=10.0,
        grows_after_rejection=False,
    )


def integrate(
    slope: "Callable[[float, Tensor], Tensor]", y: "Tensor", t: float, end: float, control: StepSize
) -> "Tensor":
    """Solves dy / dt = slope(t, y) from t to end.

    Args:
        slope: Its values have y's shape.
        y: At t.
        t: Where to start.
        end: Where to stop, above or below t.
        control: Which steps are taken, and how long they are.

    Source: Dormand and Prince 1980; Hairer, Norsett and Wanner, Solving Ordinary Differential Equations I, II.4.
    """
    import torch

    def mixed(weights: Any, slopes: "list[Tensor]") -> "Tensor":
        return sum((w * k for w, k in zip(weights, slopes, strict=True) if w), torch.zeros_like(y))

    way = math.copysign(1.0, end - t)
    first, past = slope(t, y), Past()
    h, tries = _first_step(slope, y, t, end, first, control), 0
    while way * (end - t) > 0:
        control.went_on(tries := tries + 1, t)
        new = t + way * h
        if way * (new - end) > 0:
            new = end
        step = new - t
        slopes = [first]
        for node, row in zip(NODES[1:], ROWS[1:], strict=True):
            slopes.append(slope(t + node * step, y + step * mixed(row, slopes)))
        y_new = y + step * mixed(WEIGHTS, slopes)
        last = slope(new, y_new)
        error = _error(control, step * mixed(ERRORS, [*slopes, last]), control.allowed(y, y_new))
        taken, factor, past = control.judge(error, past)
        if taken:
            t, y, first = new, y_new, last
        h = abs(step) * factor
    return y


def _error(control: StepSize, difference: "Tensor", allowed: "Tensor") -> float:
    """Over all of y, which is one system of equations."""
    return control.error(difference[None], allowed[None])


def _first_step(
    slope: "Callable[[float, Tensor], Tensor]", y: "Tensor", t: float, end: float, first: "Tensor", control: StepSize
) -> float:
    whole, way, allowed = abs(end - t), math.copysign(1.0, end - t), control.allowed(y)
    size, pace = _error(control, y, allowed), _error(control, first, allowed)
    h = min(1e-6 if size < 1e-5 or pace < 1e-5 else 0.01 * size / pace, whole)
    bend = _error(control, slope(t + way * h, y + way * h * first) - first, allowed) / h
    likely = max(1e-6, h * 1e-3) if pace <= 1e-15 and bend <= 1e-15 else (0.01 / max(pace, bend)) ** 0.2
    return min(100 * h, likely, whole)
