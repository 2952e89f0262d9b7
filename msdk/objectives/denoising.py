"""The denoising loss."""

from typing import TYPE_CHECKING, ClassVar

import attrs
from attrs.validators import ge

from msdk.objectives.base import Loss, Objective

if TYPE_CHECKING:
    from msdk.denoiser import Denoiser


@attrs.frozen(kw_only=True)
class Denoising(Objective):
    """Weighted squared error of the denoised image: w(t) |x_0 estimate - x_0|^2, mean over its dimensions.

    Source: Ho et al. 2020, arXiv 2006.11239, Eq. 14, and the paper's Eq. 2; w is the recipe's `weighting`. Input
    perturbation: Ning et al. 2023, arXiv 2301.11706, Algorithm 1. Noise offset: Guttenberg 2023, "Diffusion with offset
    noise"; it moves the mean of each channel, which noise of pixels hardly does.

    Args:
        input_perturbation: gamma: the network sees x_t + sigma gamma xi with normal xi, and is to find the noise of
            x_t; 0.1 in the paper.
        noise_offset: The noise gets this times a normal number for each channel of an image.
    """

    asks: ClassVar[bool] = True

    input_perturbation: float = attrs.field(default=0.0, validator=ge(0))
    noise_offset: float = attrs.field(default=0.0, validator=ge(0))

    @property
    def extra(self) -> int:  # pyright: ignore[reportIncompatibleVariableOverride]  a constant of others
        return (self.input_perturbation > 0) + (self.noise_offset > 0)

    def build(self, denoiser: "Denoiser") -> Loss:
        from msdk.objectives.denoising_loss import DenoisingLoss

        return DenoisingLoss(self.input_perturbation, self.noise_offset)
