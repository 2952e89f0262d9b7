"""The loss of critically damped Langevin diffusion."""

from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor, nn

from msdk.batch import Batch, per_image
from msdk.objectives.base import Draw
from msdk.schedules.cld import CLD

if TYPE_CHECKING:
    from msdk.denoiser import Denoiser


class CLDLoss(nn.Module):
    """See `msdk.objectives.cld`. It owns nothing."""

    def loss(self, batch: Batch, draw: Draw, denoiser: "Denoiser") -> Tensor:
        assert draw.extra is not None
        x_0, t, schedule = batch.images, draw.times, cast("CLD", denoiser.schedule)
        noise = draw.extra[:, 0]
        x, v = noised(x_0, draw.noise, noise, t, schedule)
        output, _ = denoiser.output(torch.cat([x, v], dim=1), t, batch.condition)
        wanted = noise - per_image(schedule.seen.rest(t), x_0) * v
        weight = per_image(draw.weights * schedule.ratio(t) ** 2, x_0)
        return (weight * (output.to(wanted.dtype) - wanted).square()).flatten(1).mean(1)


def noised(x_0: Tensor, of_x: Tensor, of_v: Tensor, t: Tensor, schedule: CLD) -> tuple[Tensor, Tensor]:
    """Image and velocity at times [batch], from both noises."""
    in_x, in_v = (per_image(each, x_0) for each in schedule.means(t))
    root, across, own = (per_image(each, x_0) for each in schedule.factor(t))
    return in_x * x_0 + root * of_x, in_v * x_0 + across * of_x + own * of_v
