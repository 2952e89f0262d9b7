"""Stages in which the velocity field varies equally much over images."""

from typing import TYPE_CHECKING

import attrs

from msdk.clusterings.complexity import Complexity
from msdk.clusterings.moments import Moments
from msdk.schedules.base import Schedule

if TYPE_CHECKING:
    from torch import Tensor


@attrs.frozen(kw_only=True)
class Dirichlet(Complexity):
    """Equal shares of the Dirichlet energy E |dv/dx|_F^2 of the velocity field v.

    dv/dx = sigma' / sigma - d / sigma dD/dx with d = alpha sigma' - sigma alpha' and dD/dx = alpha / sigma^2 times the
    posterior covariance C, whose trace is exact and whose norm is Hutchinson's estimate, |C z|^2 with normal z. Of a
    run, |dv/dx|_F^2 is Hutchinson's estimate |z dv/dx|^2, by one backward pass through its networks.
    The fields are those of `msdk.clusterings.complexity.Complexity`.
    Source: Complexity-Balanced Diffusion Splitting (Issachar et al. 2026), arXiv 2606.06477; the closed form is ours.
    """

    def monitor(self, schedule: Schedule, times: "Tensor", y: "Tensor", mean: "Tensor", found: Moments) -> "Tensor":
        return dirichlet(schedule, times, found, y.shape[1])


def dirichlet(schedule: Schedule, times: "Tensor", found: Moments, size: int) -> "Tensor":
    """|dv/dx|_F^2 at times [pairs] of points of so many numbers."""
    alpha, sigma = schedule.alpha(times), schedule.sigma(times)
    d_alpha, d_sigma = schedule.slopes(times)
    own, pull = d_sigma / sigma, (alpha * d_sigma - sigma * d_alpha) / sigma * alpha / sigma**2
    own, pull = own.to(found.trace), pull.to(found.trace)
    return own**2 * size - 2 * own * pull * found.trace + pull**2 * found.probed.square().sum(1)
