"""How weights are averaged over training."""

import attrs
from attrs.validators import ge

from msdk.averages.base import Average


@attrs.frozen(kw_only=True)
class MyAverage(Average):
    """The plain mean of all weights since a step; the last weights until then.

    Source: Polyak and Juditsky 1992, SIAM J. Control Optim. 30(4), Eq. 5.

    Args:
        start: Updates before averaging begins.
    """

    start: int = attrs.field(default=0, validator=ge(0))

    def decay(self, update: int, batch: int) -> float:
        # A function of the update alone, so that a resumed run goes on as if it had not stopped.
        done = update - self.start
        return 1 - 1 / done if done > 1 else 0.0
