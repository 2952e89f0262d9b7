"""The denoising loss with a learned uncertainty."""

from typing import TYPE_CHECKING, ClassVar

import attrs
from attrs.validators import ge

from msdk.objectives.base import Loss, Objective

if TYPE_CHECKING:
    from msdk.denoiser import Denoiser


@attrs.frozen(kw_only=True)
class Uncertainty(Objective):
    """exp(-u(t)) L + u(t): the denoising loss L over its learned scale, so that all noise levels weigh alike.

    For a given u the best network is that of L; for a given network the best u is log E[L | t], at which each level has
    the loss 1 + u. u = a . sqrt(2) cos(f c + p) + b with c = ln(ratio) / 4, fixed random frequencies f and phases p,
    and learned a and b, which start at 0: there the loss is L.
    Source: Karras et al. 2024, arXiv 2312.02696 (EDM2), after Kendall et al. 2018, arXiv 1705.07115. EDM2's vector a
    has length 1; ours is free.

    Args:
        channels: Length of a.
    """

    asks: ClassVar[bool] = True

    channels: int = attrs.field(default=128, validator=ge(1))

    def build(self, denoiser: "Denoiser") -> Loss:
        from msdk.objectives.uncertainty_loss import UncertaintyLoss

        return UncertaintyLoss(self.channels)
