"""The denoising loss of Poisson flows."""

from typing import TYPE_CHECKING, ClassVar

import attrs
from attrs.validators import gt

from msdk.errors import PartError
from msdk.objectives.base import Loss, Objective
from msdk.schedules import pfgm

if TYPE_CHECKING:
    from msdk.denoiser import Denoiser
    from msdk.recipe import Recipe


@attrs.frozen(kw_only=True)
class PFGM(Objective):
    """w(z) |x_0 estimate - x_0|^2 at x = x_0 + s noise, where s = z / |g| and g ~ N(0, 1): the noise of Poisson flows.

    (x - x_0, z) is Gaussian noise of the scale s in the augmented space, so |x - x_0| is z sqrt(b / (1 - b)) with b ~
    Beta(D / 2, 1 / 2), and p(x | x_0, z) falls as 1 / (|x - x_0|^2 + z^2)^((D + 1) / 2): the best estimate of x_0 is
    the mean of the data under the charges' weights, and the field points to it, (x_0 - x, -z). PFGM's program regresses
    the field that a large batch makes, normalised by |d| + gamma; this loss has the same optimum for an infinite batch,
    and is of each image alone. With the weighting `soft-min-snr` of gamma' = D / gamma^2 errors count as they do there.
    Source: Xu et al. 2022, arXiv 2209.11178, Algorithm 2; the loss of single images: Xu et al. 2023, arXiv 2302.04265
    (PFGM++), Eq. 6, with D = 1 of its extra dimensions.

    Args:
        reach: Largest scale s, that is sigma_end (1 + tau)^M of the published settings: further away is no sampler.
    """

    extra: ClassVar[int] = 1

    reach: float = attrs.field(default=54.3, validator=gt(0))

    def build(self, denoiser: "Denoiser") -> Loss:
        from msdk.objectives.pfgm_loss import PFGMLoss

        return PFGMLoss(self.reach)

    def check(self, recipe: "Recipe") -> None:
        super().check(recipe)
        if not isinstance(recipe.schedule, pfgm.PFGM):
            raise PartError(
                "pfgm draws the noise of Poisson flows, whose time is the height z of the schedule pfgm: use that one, "
                "or another objective"
            )
        if recipe.schedule.z_max >= self.reach:
            raise PartError(
                f"reach = {self.reach:g} must be above the schedule's z_max = {recipe.schedule.z_max:g}: noise of a "
                "smaller scale than z is rare"
            )
