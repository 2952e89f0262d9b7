"""An objective: the spec that a recipe holds, and the module whose loss is minimised."""

from typing import TYPE_CHECKING

import attrs
from attrs.validators import gt

from msdk.objectives.base import Loss, Objective

if TYPE_CHECKING:
    from msdk.denoiser import Denoiser


@attrs.frozen(kw_only=True)
class MyObjective(Objective):
    """Pseudo-Huber loss of the denoised image: sqrt(|x_0 estimate - x_0|^2 + c^2) - c, mean over its dimensions.

    Source: Song and Dhariwal 2023, arXiv 2310.14189, Eq. 8, by dimension.

    Args:
        c: From where on errors count by their size, not by its square.
    """

    c: float = attrs.field(default=0.1, validator=gt(0))

    def build(self, denoiser: "Denoiser") -> Loss:
        # Made here, not above: recipes are checked without torch, in a fraction of a second.
        from torch import Tensor, nn

        from msdk.batch import Batch, per_image
        from msdk.objectives.base import Draw

        c = self.c

        class PseudoHuber(nn.Module):
            """Parameters and buffers that it had would be trained, averaged and saved with the network's."""

            def loss(self, batch: Batch, draw: Draw, denoiser: "Denoiser") -> Tensor:
                x_0, schedule = batch.images, denoiser.schedule
                alpha, sigma, weight = (
                    per_image(values, x_0)
                    for values in (schedule.alpha(draw.times), schedule.sigma(draw.times), draw.weights)
                )
                estimate = denoiser(alpha * x_0 + sigma * draw.noise, draw.times, batch.condition)
                error = (weight * (estimate - x_0).square() + c * c).sqrt() - c
                return error.mean(dim=tuple(range(1, x_0.ndim)))

        return PseudoHuber()
