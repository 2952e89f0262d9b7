"""Stages in which the velocity changes equally much along the sampler's paths."""

from typing import TYPE_CHECKING, ClassVar

import attrs

from msdk.clusterings.complexity import Complexity
from msdk.clusterings.moments import Moments
from msdk.schedules.base import Schedule

if TYPE_CHECKING:
    from torch import Tensor


@attrs.frozen(kw_only=True)
class Acceleration(Complexity):
    """Equal shares of E |dv/dt|^2 along the paths of the probability-flow ODE, v being the velocity on them.

    dv/dt = alpha'' D + sigma'' eps + (alpha' - sigma' / r) dD/dr r' with eps = (x_t - alpha D) / sigma: on straight
    paths -dD/dt / t. Of the optimal denoiser D the change dD/dr is in closed form, see `msdk.clusterings.moments`; of a
    run it is a difference quotient along the path, see `msdk.clusterings.measured`.
    The fields are those of `msdk.clusterings.complexity.Complexity`.
    Source: Complexity-Balanced Diffusion Splitting (Issachar et al. 2026), arXiv 2606.06477; the closed form is ours.
    """

    changes: ClassVar[bool] = True

    def monitor(self, schedule: Schedule, times: "Tensor", y: "Tensor", mean: "Tensor", found: Moments) -> "Tensor":
        return acceleration(schedule, times, y, mean, found)


def acceleration(schedule: Schedule, times: "Tensor", y: "Tensor", mean: "Tensor", found: Moments) -> "Tensor":
    """|dv/dt|^2 at times [pairs], where y = x_t / alpha and the denoiser says `mean`."""
    import torch

    assert found.change is not None
    ratio, (d_alpha, d_sigma) = schedule.ratio(times), schedule.slopes(times)
    step = 1e-5 * torch.minimum(times - schedule.t_min, schedule.t_max - times).clamp(min=1e-4 * schedule.t_max)
    later, before = schedule.slopes(times + step), schedule.slopes(times - step)
    bend = [(high - low) / (2 * step) for high, low in zip(later, before, strict=True)]
    pace = (schedule.alpha(times) * d_sigma - schedule.sigma(times) * d_alpha) / schedule.alpha(times) ** 2
    of_image, of_noise, of_change, ratio = (
        each[:, None].to(mean) for each in (*bend, (d_alpha - d_sigma / ratio) * pace, ratio)
    )
    eps = (y - mean) / ratio
    return (of_image * mean + of_noise * eps + of_change * found.change).square().sum(1)
