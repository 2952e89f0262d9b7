"""Consistency training, and distillation of a trained run."""

import math
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import attrs
from attrs.validators import ge, gt, le

from msdk.errors import PartError
from msdk.objectives.base import Loss, Objective

if TYPE_CHECKING:
    from msdk.denoiser import Denoiser
    from msdk.recipe import Recipe


@attrs.frozen(kw_only=True)
class Consistency(Objective):
    """w(t) d(f(x_t, t), f'(x_s, s)): the estimate at t is that at s, a step of N - 1 further down the path to the data.

    The steps are even in ratio^(1 / rho) from the schedule's last time down to the floor, where the parameterisation
    `consistency` makes the estimate the image itself. x_s is reached with the same noise, x_s = x_0 + s eps
    (consistency training), or by one of Heun's steps with the estimates of a trained run, the `teacher` (consistency
    distillation). f' is an average of the network, with no gradient. A time of the lower stage is estimated by that
    stage's decoder. Times are those that are drawn, not nodes of a grid: with the law `rho` of the schedule's ends
    they are even on all grids.
    Source: Song et al. 2023, arXiv 2303.01469, Algorithms 2 and 3, Eq. 7 and 10; the schedules of N and of the average
    are of its appendix C, as in the published program. `pseudo-huber`: Song and Dhariwal 2023, arXiv 2310.14189.

    Args:
        teacher: A run folder, whose averaged weights make the steps; none is consistency training.
        scales: Whether N stays as it starts ("fixed"), or grows with the square root of the steps done.
        start_scales: N at the start.
        end_scales: N less 1 at the end, of those that grow.
        total_steps: Steps after which N has grown.
        ema: Whether the rate of f' stays as it starts, or rises with N: exp(start_scales log(target_ema) / (N - 1)).
        target_ema: The rate at the start: f' <- rate f' + (1 - rate) f after each step. 0 is the network itself.
        metric: The distance d, a mean over dimensions: squares, absolute values, or sqrt(square + c^2) - c with c =
            0.00054 for each dimension; "l2-32" has the squares of images brought to 32x32 pixels, for larger ones.
        floor: Lowest ratio.
        rho: Exponent of the steps.
    """

    teacher: Path | None = None
    scales: Literal["fixed", "progressive"] = "progressive"
    start_scales: int = attrs.field(default=2, validator=[ge(2), le(100_000)])
    end_scales: int = attrs.field(default=150, validator=[ge(2), le(100_000)])
    total_steps: int = attrs.field(default=800_000, validator=ge(1))
    ema: Literal["fixed", "adaptive"] = "adaptive"
    target_ema: float = attrs.field(default=0.9, validator=[ge(0), le(1)])
    metric: Literal["l2", "l1", "pseudo-huber", "l2-32"] = "l2"
    floor: float = attrs.field(default=0.002, validator=gt(0))
    rho: float = attrs.field(default=7.0, validator=gt(0))

    @property
    def calls(self) -> int:  # pyright: ignore[reportIncompatibleVariableOverride]  a constant of others
        return 2 if self.teacher is None else 4

    def _grown(self, iteration: int) -> int:
        """N - 1 of those that grow."""
        first, last = self.start_scales**2, (self.end_scales + 1) ** 2
        return max(math.ceil(math.sqrt(iteration / self.total_steps * (last - first) + first) - 1), 1)

    def nodes(self, iteration: int) -> int:
        """N, after so many steps."""
        return self.start_scales if self.scales == "fixed" else self._grown(iteration) + 1

    def rate(self, iteration: int) -> float:
        """The rate of f', after so many steps."""
        if self.ema == "fixed":
            return self.target_ema
        gaps = self.start_scales - 1 if self.scales == "fixed" else self._grown(iteration)
        return self.target_ema ** (self.start_scales / gaps)

    def build(self, denoiser: "Denoiser") -> Loss:
        from msdk.objectives.consistency_loss import ConsistencyLoss

        return ConsistencyLoss(self, denoiser)

    def check(self, recipe: "Recipe") -> None:
        super().check(recipe)
        schedule = recipe.schedule
        lowest = schedule.t_of_ratio(self.floor)
        if abs(recipe.parameterization.coefficients(schedule, lowest).c_out) > 1e-6:
            raise PartError(
                f"consistency needs estimates that are the image itself at the ratio {self.floor:g}: set "
                f'parameterization to {{ name = "consistency", floor = {self.floor:g} }}'
            )
        if self.metric == "l2-32" and len(recipe.fed) != 3:
            raise PartError('the metric l2-32 is of images, channels x height x width: set metric to "l2"')
        refuse_shards(recipe)


def refuse_shards(recipe: "Recipe") -> None:
    """Raises `PartError` where a second network would have to be gathered."""
    if recipe.training.parallel == "fsdp":
        raise PartError('objectives with a second network keep it whole: set training.parallel to "ddp"')
