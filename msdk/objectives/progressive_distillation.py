"""Progressive distillation: half the steps of a trained run."""

from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import attrs
from attrs.validators import ge, gt, le

from msdk.errors import PartError
from msdk.objectives.base import Loss, Objective
from msdk.objectives.consistency import refuse_shards

if TYPE_CHECKING:
    from msdk.denoiser import Denoiser
    from msdk.recipe import Recipe


@attrs.frozen(kw_only=True)
class ProgressiveDistillation(Objective):
    """w(t) |x_0 estimate - x|^2, where x is the estimate with which one step goes where two of the teacher's do.

    From the ratio a the teacher makes two of DDIM's steps, to b and to c; x = (c y_a - a y_c) / (c - a) makes one. The
    steps are even in ratio^(1 / rho), b in the middle. Each halving is a run, whose teacher is the run before.
    Source: Salimans and Ho 2022, arXiv 2202.00512, Algorithm 2, with the steps of Song et al. 2023, arXiv 2303.01469.

    Args:
        teacher: A run folder, whose averaged weights make the steps.
        steps: Steps that the network learns to make from the schedule's last time to the floor.
        floor: Lowest ratio.
        rho: Exponent of the steps.
    """

    calls: ClassVar[int] = 3

    teacher: Path | None = None
    steps: int = attrs.field(default=8, validator=[ge(1), le(100_000)])
    floor: float = attrs.field(default=0.002, validator=gt(0))
    rho: float = attrs.field(default=7.0, validator=gt(0))

    def build(self, denoiser: "Denoiser") -> Loss:
        from msdk.objectives.progressive_distillation_loss import ProgressiveDistillationLoss

        return ProgressiveDistillationLoss(self)

    def check(self, recipe: "Recipe") -> None:
        super().check(recipe)
        if self.teacher is None:
            raise PartError("progressive-distillation needs a teacher: name the folder of a trained run")
        refuse_shards(recipe)
