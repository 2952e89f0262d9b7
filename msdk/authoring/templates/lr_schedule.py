"""How the learning rate goes over training."""

import attrs
from attrs.validators import gt

from msdk.lr_schedules.base import LRSchedule


@attrs.frozen(kw_only=True)
class MyLRSchedule(LRSchedule):
    """The inverse square root of the step, from `start` on; 1 before.

    Source: Vaswani et al. 2017, arXiv 1706.03762, section 5.3; Karras et al. 2024, arXiv 2312.02696, Eq. 67.

    Args:
        start: Share of the training after which the rate begins to fall.
    """

    start: float = attrs.field(default=0.1, validator=gt(0))

    def factor(self, iteration: int, iterations: int) -> float:
        # A function of the step alone, so that a resumed run goes on as if it had not stopped.
        return float(min((self.start * iterations / max(iteration, 1)) ** 0.5, 1.0))
