"""The loss of progressive distillation."""

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from msdk.batch import Batch, per_image
from msdk.objectives.base import Draw
from msdk.objectives.consistency_loss import WithTeacher, estimate, euler, lower

if TYPE_CHECKING:
    from msdk.denoiser import Denoiser
    from msdk.objectives.progressive_distillation import ProgressiveDistillation


class ProgressiveDistillationLoss(WithTeacher):
    """See `msdk.objectives.progressive_distillation`. It owns nothing."""

    def __init__(self, spec: "ProgressiveDistillation") -> None:
        super().__init__()
        self.spec = spec

    def loss(self, batch: Batch, draw: Draw, denoiser: "Denoiser") -> Tensor:
        x_0, schedule, spec = batch.images, denoiser.schedule, self.spec
        high = schedule.ratio(draw.times)
        middle, low = (lower(high, steps, schedule, spec.floor, spec.rho) for steps in (2 * spec.steps, spec.steps))
        y = x_0 + per_image(high, x_0) * draw.noise
        found = estimate(denoiser, y, high, batch)
        with torch.no_grad():
            teacher = self.teacher(denoiser)
            below = euler(teacher, euler(teacher, y, high, middle, batch), middle, low, batch)
            wanted = y - per_image(high / (low - high), y) * (below - y)
        error = (found - wanted).square().flatten(1).mean(1)
        return draw.weights.to(error.device, error.dtype, non_blocking=True) * error
