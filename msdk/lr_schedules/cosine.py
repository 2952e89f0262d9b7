"""Half a cosine from the whole learning rate to its end."""

import math

import attrs
from attrs.validators import ge, le

from msdk.lr_schedules.base import LRSchedule


@attrs.frozen(kw_only=True)
class Cosine(LRSchedule):
    """From 1 to `last` by half a cosine over the whole training.

    Source: Loshchilov and Hutter 2017, arXiv 1608.03983, Eq. 5 without restarts.

    Args:
        last: Factor at the end.
    """

    last: float = attrs.field(default=0.0, validator=[ge(0), le(1)])

    def factor(self, iteration: int, iterations: int) -> float:
        share = min(iteration / iterations, 1.0)
        return self.last + (1 - self.last) * (1 + math.cos(math.pi * share)) / 2
