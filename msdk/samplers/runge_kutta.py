"""The adaptive Runge-Kutta method of Dormand and Prince, with the step control that scipy's RK45 has."""

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

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

SAFETY, LEAST, MOST = 0.9, 0.2, 10.0


def integrate(
    slope: "Callable[[float, Tensor], Tensor]", y: "Tensor", t: float, end: float, tolerance: float
) -> "Tensor":
    """Solves dy / dt = slope(t, y) from t to end.

    A step is taken where rms(error / (tolerance + tolerance max(|y|, |y new|))) over all of y is below 1.

    Args:
        slope: Its values have y's shape.
        y: At t.
        t: Where to start.
        end: Where to stop, above or below t.
        tolerance: Relative and absolute.

    Source: Dormand and Prince 1980; Hairer, Norsett and Wanner, Solving Ordinary Differential Equations I, II.4.
    """
    import torch

    def rms(values: "Tensor") -> float:
        return float(values.square().mean().sqrt())  # decides the next step

    def mixed(weights: Any, slopes: "list[Tensor]") -> "Tensor":
        return sum((w * k for w, k in zip(weights, slopes, strict=True) if w), torch.zeros_like(y))

    way = math.copysign(1.0, end - t)
    first = slope(t, y)
    h = _first_step(slope, rms, y, t, end, first, tolerance)
    while way * (end - t) > 0:
        rejected = False
        while True:
            new = t + way * h
            if way * (new - end) > 0:
                new = end
            h = abs(new - t)
            step = new - t
            slopes = [first]
            for node, row in zip(NODES[1:], ROWS[1:], strict=True):
                slopes.append(slope(t + node * step, y + step * mixed(row, slopes)))
            y_new = y + step * mixed(WEIGHTS, slopes)
            last = slope(new, y_new)
            scale = tolerance + tolerance * torch.maximum(y.abs(), y_new.abs())
            error = rms(step * mixed(ERRORS, [*slopes, last]) / scale)
            if error < 1:
                factor = MOST if error == 0 else min(MOST, SAFETY * error**-0.2)
                h *= min(1.0, factor) if rejected else factor
                break
            h *= max(LEAST, SAFETY * error**-0.2)
            rejected = True
        t, y, first = new, y_new, last
    return y


def _first_step(
    slope: "Callable[[float, Tensor], Tensor]",
    rms: "Callable[[Tensor], float]",
    y: "Tensor",
    t: float,
    end: float,
    first: "Tensor",
    tolerance: float,
) -> float:
    whole, way = abs(end - t), math.copysign(1.0, end - t)
    scale = tolerance + y.abs() * tolerance
    size, pace = rms(y / scale), rms(first / scale)
    h = min(1e-6 if size < 1e-5 or pace < 1e-5 else 0.01 * size / pace, whole)
    bend = rms((slope(t + way * h, y + way * h * first) - first) / scale) / h
    likely = max(1e-6, h * 1e-3) if pace <= 1e-15 and bend <= 1e-15 else (0.01 / max(pace, bend)) ** 0.2
    return min(100 * h, likely, whole)
