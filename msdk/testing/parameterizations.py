"""Laws of parameterisations. Option: `schedule`, VP where none is given."""

import math

import torch

from msdk.parameterizations.base import Parameterization
from msdk.schedules.base import Schedule
from msdk.schedules.vp import VPLinear
from msdk.testing.laws import COMMON, require

VP = VPLinear()
RATIOS = torch.logspace(-2, 1.5, 50, dtype=torch.float64)
FIELDS = ("c_skip", "c_out", "c_in", "c_noise")


def the_target_gives_back_the_image(parameterization: Parameterization, *, schedule: Schedule = VP) -> None:
    """A network that hits its target makes the denoiser return x_0, at every noise level."""
    t = schedule.t_of_ratio(RATIOS)
    x_0, eps = torch.randn(2, len(t), generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    x_t = schedule.alpha(t) * x_0 + schedule.sigma(t) * eps
    c = parameterization.coefficients(schedule, t)
    of_image, of_noise = parameterization.target_weights(schedule, t)
    found = c.c_skip * x_t + c.c_out * (of_image * x_0 + of_noise * eps)
    error = float((found - x_0).abs().max())
    require(error < 1e-9, f"with the exact target the estimate is {error:.3g} away from the image")


def floats_and_tensors_agree(parameterization: Parameterization, *, schedule: Schedule = VP) -> None:
    """The coefficients of a float are those of a float64 tensor."""
    times = schedule.t_of_ratio(RATIOS)
    tensors = parameterization.coefficients(schedule, times)
    for index, t in enumerate(times.tolist()):
        numbers = parameterization.coefficients(schedule, t)
        for field in FIELDS:
            one, other = getattr(numbers, field), getattr(tensors, field)
            other = float(other[index]) if isinstance(other, torch.Tensor) and other.ndim else float(other)
            require(
                math.isclose(one, other, rel_tol=1e-12, abs_tol=1e-300),
                f"{field} at t = {t} is {one} for a float and {other} for a tensor",
            )


def coefficients_are_finite(parameterization: Parameterization, *, schedule: Schedule = VP) -> None:
    """From the first time to the last, and the network's output counts."""
    for t in (max(schedule.t_min, 1e-4), schedule.t_max):
        c = parameterization.coefficients(schedule, t)
        wrong = [field for field in FIELDS if not math.isfinite(getattr(c, field))]
        require(not wrong, f"{', '.join(wrong)} at t = {t} are not finite")
        require(c.c_out != 0 and c.c_in != 0, f"c_out = {c.c_out} and c_in = {c.c_in} at t = {t}: neither may be 0")


LAWS = (*COMMON, the_target_gives_back_the_image, floats_and_tensors_agree, coefficients_are_finite)
