"""How a trained denoiser changes: by random probes of its Jacobian, and by difference quotients along its paths.

With y = x_t / alpha and r = sigma / alpha, it gives of any denoiser D what `msdk.clusterings.moments` has of the
optimal one in closed form: with C = r^2 dD/dy, a probe z has z C by one backward pass, and along dy/dr = (y - D) / r
the change dD/dr is the central difference of two more estimates.
Source: Hutchinson 1989, "A stochastic estimator of the trace of the influence matrix".
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from msdk.clusterings.base import Estimate
from msdk.clusterings.moments import Moments

if TYPE_CHECKING:
    from torch import Tensor

STEP = 3e-3
"""Of ratios, relative: the quotient is off by some 1e-5 of itself, and the rounding of float32 networks by less."""


def measured(
    estimate: Estimate, y: "Tensor", ratios: "Tensor", probe: "Tensor", images: Sequence[int], *, changes: bool
) -> "tuple[Tensor, Moments]":
    """What a denoiser says at noisy points, float64 [b, d], and how that changes there.

    Args:
        estimate: The denoiser.
        y: x_0 + ratio eps, float64 [b, d].
        ratios: float64 [b], on the CPU.
        probe: z, float64 [b, d], of the length sqrt(d); `trace` and the square of `probed` are then right in the mean.
        images: Which points of the data y are noisy versions of.
        changes: Whether the change along the path is asked for.
    """
    import torch

    # TF32 has 10 bits, which differences of estimates cannot spare.
    with torch.backends.cudnn.flags(enabled=True, allow_tf32=False), torch.enable_grad():
        place = y.detach().requires_grad_()
        mean = estimate(place, ratios, images)
        (pulled,) = torch.autograd.grad(mean, place, probe.to(mean))
        probed = pulled.double() * ratios.square()[:, None].to(y)
        mean = mean.detach().double()
        change = _change(estimate, y, ratios, mean, images) if changes else None
    return mean, Moments((probe * probed).sum(1), probed, change)


def spherical(probe: "Tensor") -> "Tensor":
    """Normal numbers [b, d] at the length sqrt(d): still of unit covariance, and |z dv/dx|^2 varies less."""
    return probe * (probe.shape[1] ** 0.5 / probe.norm(dim=1, keepdim=True))


def _change(estimate: Estimate, y: "Tensor", ratios: "Tensor", mean: "Tensor", images: Sequence[int]) -> "Tensor":
    """dD/dr along the path, [b, d]; on one side of an edge between two networks where it lies within the step."""
    import torch

    slope = (y - mean) / ratios[:, None].to(y)
    edges = torch.tensor(estimate.edges, dtype=torch.float64)

    def within(other: "Tensor") -> "Tensor":
        return torch.where(torch.bucketize(other, edges) == torch.bucketize(ratios, edges), other, ratios)

    later, before = within(ratios * (1 + STEP)), within(ratios * (1 - STEP))
    later = torch.where(later == before, ratios * (1 + STEP), later)  # a stage shorter than that has no inside
    with torch.no_grad():
        ends = [estimate(y + (end - ratios)[:, None].to(y) * slope, end, images).double() for end in (later, before)]
    return (ends[0] - ends[1]) / (later - before)[:, None].to(y)
