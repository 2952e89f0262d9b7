"""The loss of critically damped Langevin diffusion."""

from typing import TYPE_CHECKING, cast

import attrs
import torch
from torch import Tensor, nn

from msdk.batch import Batch, per_image
from msdk.objectives import cld
from msdk.objectives.base import Draw
from msdk.schedules.cld import CLD

if TYPE_CHECKING:
    from msdk.denoiser import Denoiser

NONE = 1e-300
"""A variance of velocity that is none."""


class CLDLoss(nn.Module):
    """See `msdk.objectives.cld`. It owns nothing."""

    def __init__(self, spec: cld.CLD) -> None:
        super().__init__()
        self.spec = spec

    def loss(self, batch: Batch, draw: Draw, denoiser: "Denoiser") -> Tensor:
        assert draw.extra is not None
        x_0, t, schedule = batch.images, draw.times, cast("CLD", denoiser.schedule)
        noise, own = draw.extra[:, 0], schedule.factor(t)[2]
        kernel, v_0 = schedule, None
        if self.spec.matching == "dsm":  # the velocity at the start is known, and no part of the noise
            kernel, v_0 = attrs.evolve(schedule, velocity=NONE), schedule.velocity**0.5 * draw.extra[:, 1]
        left = kernel.factor(t)[2]
        x, v = noised(x_0, draw.noise, noise, t, kernel, v_0)
        output, _ = denoiser.output(torch.cat([x, v], dim=1), t, batch.condition)
        # A network says the noise of hybrid score matching, whatever its score is matched to.
        wanted = per_image(own / left, x_0) * noise - per_image(schedule.seen.rest(t), x_0) * v
        weight = draw.weights * schedule.ratio(t) ** 2 * (left / own) ** 2
        if self.spec.reweighting != "flat":
            weight = weight * schedule.beta(t)
        if self.spec.reweighting == "likelihood":
            weight = weight / left**2
        return (per_image(weight, x_0) * (output.to(wanted.dtype) - wanted).square()).flatten(1).mean(1)


def noised(
    x_0: Tensor, of_x: Tensor, of_v: Tensor, t: Tensor, schedule: CLD, v_0: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Image and velocity at times [batch], from both noises; with the velocity at the start, where it is known."""
    in_x, in_v = (per_image(each, x_0) for each in schedule.means(t))
    root, across, own = (per_image(each, x_0) for each in schedule.factor(t))
    x, v = in_x * x_0 + root * of_x, in_v * x_0 + across * of_x + own * of_v
    if v_0 is None:
        return x, v
    to_x, to_v = (per_image(each, x_0) for each in schedule.carried(t))
    return x + to_x * v_0, v + to_v * v_0
