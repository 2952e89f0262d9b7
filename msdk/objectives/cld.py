"""Hybrid score matching of critically damped Langevin diffusion."""

from typing import TYPE_CHECKING, Literal

import attrs

from msdk.errors import PartError
from msdk.objectives.base import Loss, Objective
from msdk.schedules import cld

if TYPE_CHECKING:
    from msdk.denoiser import Denoiser
    from msdk.recipe import Recipe


@attrs.frozen(kw_only=True)
class CLD(Objective):
    """w(t) r^2 |F - eps_v|^2: the error of the noise of the velocity, at u = (x, v) drawn from x_0 with v_0 unknown.

    u = psi x_0 + L eps with L L^T = Sigma_t, which has the variance of v_0 in it (hybrid score matching), and the score
    of v is -eps_v / L_vv. The recipe's weighting counts as one of the error of noise, w(t) r^2 with the ratio r of x:
    `uniform` is 1, as published. Networks are fed x and v; the image's estimate follows from eps_v and u.
    Source: Dockhorn et al. 2022, arXiv 2112.07068, Eq. 8 and appendix B.3.

    Args:
        matching: "hsm" is the above; "dsm" draws v_0 too and regresses the noise that is left, with a weight that grows
            without bound towards the data ("denoising score matching": noisier, for comparison).
        reweighting: What errors count beside w(t) r^2: 1 ("flat", the published models'), beta(t) ("rate"), or beta(t)
            / L_vv^2 ("likelihood", with which the loss bounds it).
    """

    matching: Literal["hsm", "dsm"] = "hsm"
    reweighting: Literal["flat", "rate", "likelihood"] = "flat"

    @property
    def extra(self) -> int:  # pyright: ignore[reportIncompatibleVariableOverride]  a constant of others
        return 1 if self.matching == "hsm" else 2

    def build(self, denoiser: "Denoiser") -> Loss:
        from msdk.objectives.cld_loss import CLDLoss

        return CLDLoss(self)

    def check(self, recipe: "Recipe") -> None:
        super().check(recipe)
        schedule, middle = recipe.schedule, 0.5
        if not isinstance(schedule, cld.CLD):
            raise PartError(
                "cld draws an image and its velocity, which only the schedule cld has: use that one, or another "
                "objective"
            )
        try:
            c = recipe.parameterization.coefficients(schedule.seen, middle)
            fits = c.c_in == 1 and abs(c.c_skip * schedule.seen.alpha(middle) - 1) < 1e-9
        except (ArithmeticError, ValueError):  # logarithms of what is no ratio there
            fits = False
        if not fits:
            raise PartError('cld learns the noise of the velocity: set parameterization to "eps"')
