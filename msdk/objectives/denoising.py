"""The denoising loss."""

from typing import TYPE_CHECKING

import attrs

from msdk.objectives.base import Loss, Objective

if TYPE_CHECKING:
    from msdk.denoiser import Denoiser


@attrs.frozen(kw_only=True)
class Denoising(Objective):
    """Weighted squared error of the denoised image: w(t) |x_0 estimate - x_0|^2, mean over its dimensions.

    Source: Ho et al. 2020, arXiv 2006.11239, Eq. 14, and the paper's Eq. 2; w is the recipe's `weighting`.
    """

    def build(self, denoiser: "Denoiser") -> Loss:
        from msdk.objectives.denoising_loss import DenoisingLoss

        return DenoisingLoss()
