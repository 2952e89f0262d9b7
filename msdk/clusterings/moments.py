"""Second and third moments of p(x_0 | x_t) of a finite data set, which say how the optimal denoiser changes.

With y = x_t / alpha, r = sigma / alpha, D = E[x_0 | x_t] and C the covariance, the denoiser has the Jacobian dD/dy =
C / r^2, and along the paths dy/dr = (y - D) / r of the probability-flow ODE its change is dD/dr = (K - C (y - D)) / r^3
with K the mean of (x_0 - D) |x_0 - D|^2. Both follow from the derivatives of the softmax.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING

import attrs

from msdk.clusterings.posterior import Scaled, Sums, negligible_as_zero
from msdk.distributed import Group

if TYPE_CHECKING:
    from torch import Tensor


@attrs.frozen
class Moments:
    """Of p(x_0 | x_t) at noisy points, float64.

    Attributes:
        trace: Of the covariance C, [pairs].
        probed: C z, [pairs, d].
        change: dD/dr along the path, [pairs, d]; None where it was not asked for.
    """

    trace: "Tensor"
    probed: "Tensor"
    change: "Tensor | None"


def moments(
    data: Scaled,
    clean: "Tensor",
    noise: "Tensor",
    ratios: "Tensor",
    mean: "Tensor",
    probe: "Tensor",
    *,
    changes: bool,
    group: Group | None = None,
    progress: Callable[[int], None] = lambda done: None,
) -> Moments:
    """Reads the data once more, with the posterior means known.

    Args:
        data: The points.
        clean: x_0, [pairs, d]: points of the data.
        noise: eps, [pairs, d].
        ratios: sigma / alpha, float64 [pairs].
        mean: E[x_0 | x_t], float64 [pairs, d].
        probe: z, float64 [pairs, d].
        changes: Whether the change along the path is asked for.
        group: Processes that read a share of the blocks each.
        progress: Told the number of blocks read.
    """
    group = group or Group()
    sums = _Moments(data, clean, noise, ratios[:, None], mean, probe, changes=changes)
    for done, block in enumerate(data.blocks(group), start=1):
        sums.add(block)
        progress(done)
    top = group.highest(sums.top)
    shrink = negligible_as_zero(sums.top - top)
    norm = group.total(sums.norm * shrink)[:, None]
    share = shrink[:, None]
    own, ratio = mean - sums.centre, ratios[:, None].to(mean.device)
    square = group.total(sums.weighed_square * share) / norm
    probed = group.total(sums.probed * share) / norm - own * (own * probe).sum(1, keepdim=True)
    trace = square[:, 0] - own.square().sum(1)
    if not changes:
        return Moments(trace.clamp(min=0), probed, None)
    # K - C (y - D) = E[k |k|^2] - D E|k|^2 - C (y + D), all about the centre.
    along = group.total(sums.along * share) / norm - own * (own * sums.direction).sum(1, keepdim=True)
    cubes = group.total(sums.cubes * share) / norm - own * square
    return Moments(trace.clamp(min=0), probed, (cubes - along) / ratio**3)


class _Moments(Sums):
    """Sums of products about the centre, in float64: differences of them are small near the data."""

    def __init__(
        self,
        data: Scaled,
        clean: "Tensor",
        noise: "Tensor",
        ratios: "Tensor",
        mean: "Tensor",
        probe: "Tensor",
        *,
        changes: bool,
    ) -> None:
        import torch

        super().__init__(data, clean, noise, ratios)
        self.probe, self.changes = probe, changes
        y = clean.double() + ratios.to(clean.device) * noise.double() - self.centre
        self.direction = y + (mean - self.centre)
        self.weighed_square = torch.zeros(len(mean), 1, dtype=torch.float64, device=mean.device)
        self.probed, self.along, self.cubes = (torch.zeros_like(mean) for _ in range(3))

    def gather(self, rows: "Tensor", weights: "Tensor", keys: "Tensor", squares: "Tensor", shrink: "Tensor") -> None:
        weights, keys, shrink = weights.double(), keys.double(), shrink[:, None]

        def taken(total: "Tensor", weighed: "Tensor") -> None:
            total[rows] = total[rows] * shrink + weighed

        taken(self.weighed_square, weights @ squares[:, None])
        taken(self.probed, (weights * (self.probe[rows] @ keys.T)) @ keys)
        if self.changes:
            taken(self.along, (weights * (self.direction[rows] @ keys.T)) @ keys)
            taken(self.cubes, (weights * squares) @ keys)
