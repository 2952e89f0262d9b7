"""The hybrid loss of iDDPM."""

from typing import TYPE_CHECKING, ClassVar

import attrs
from attrs.validators import ge

from msdk.errors import PartError
from msdk.objectives.base import Loss, Objective
from msdk.schedules.vp_discrete import VPDiscrete

if TYPE_CHECKING:
    from msdk.denoiser import Denoiser
    from msdk.recipe import Recipe


@attrs.frozen(kw_only=True)
class HybridVLB(Objective):
    """L_simple + lambda L_vlb: the denoising loss, and the variational bound, which trains the variance alone.

    The second half v of the network's output says the variance of the step from t to the one before,
    exp(f log beta + (1 - f) log beta~) with f = (v + 1) / 2. The term of the bound for t, in bits per dimension and
    times the number of steps, is the divergence of that step from the true one; of the first step, the likelihood of
    8-bit pixels. No gradient of it reaches the mean.
    Source: Nichol and Dhariwal 2021, arXiv 2102.09672, Eq. 15 and 16, as in improved-diffusion's rescaled loss.

    Args:
        vlb_weight: lambda.
    """

    learns_variance: ClassVar[bool] = True
    asks: ClassVar[bool] = True

    vlb_weight: float = attrs.field(default=0.001, validator=ge(0))

    def build(self, denoiser: "Denoiser") -> Loss:
        from msdk.objectives.hybrid_vlb_loss import HybridVLBLoss

        return HybridVLBLoss(self.vlb_weight)

    def check(self, recipe: "Recipe") -> None:
        plain = [str(stage) for stage, each in enumerate(recipe.decoders) if not getattr(each, "variance", False)]
        if plain:
            raise PartError(
                f"hybrid-vlb trains a variance, which decoders {', '.join(plain)} do not predict: set variance to true"
            )
        if not (isinstance(recipe.schedule, VPDiscrete) and recipe.schedule.clock == "steps"):
            raise PartError(
                "hybrid-vlb bounds the likelihood of a chain of steps, which only a discrete schedule has: use "
                'vp-discrete, vp-scaled-linear or vp-iddpm-cosine with clock = "steps"'
            )
        if recipe.autoencoder is not None or recipe.encoder_of(0).unit_range:
            raise PartError(
                "hybrid-vlb measures the likelihood of 8-bit pixels in [-1, 1]: it needs a recipe without an "
                "autoencoder, and encoder.unit_range = false"
            )
