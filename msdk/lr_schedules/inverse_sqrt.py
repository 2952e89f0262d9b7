"""A rate that falls with the square root of the steps, which needs no end to be known."""

import attrs
from attrs.validators import ge

from msdk.lr_schedules.base import LRSchedule


@attrs.frozen(kw_only=True)
class InverseSqrt(LRSchedule):
    """1 until step `start`, then the square root of start / step; `training.warmup` stands beside it.

    Source: Karras et al. 2024, arXiv 2312.02696, Eq. 67 (EDM2, whose `ref_batches` is `start`).

    Args:
        start: Steps before the rate begins to fall.
    """

    start: int = attrs.field(default=35_000, validator=ge(1))

    def factor(self, iteration: int, iterations: int) -> float:
        return (self.start / max(iteration, self.start)) ** 0.5
