"""Stages that end at shares of the lowest log-SNR: the rule by which Wan 2.2 has two experts."""

import attrs
from attrs.validators import ge, gt, optional

from msdk.clusterings.base import Clustering, Found, Subject
from msdk.errors import PartError

SHOWN = 50
"""Pieces of the curve of log-SNR."""


@attrs.frozen(kw_only=True)
class SnrShare(Clustering):
    """Edges at k / stages of the lowest log-SNR, k = 1 .. stages - 1: of two stages, at half of it. Looks at no data.

    log SNR(t_k) = k / stages log SNR(t_last), with SNR = (alpha / sigma)^2: an edge has the ratio
    ratio(t_last)^(k / stages). As half of the lowest SNR itself is never reached, the half is one of its logarithm. It
    depends on where the noisiest time is: of straight paths that end at t = 0.98 and 81 / 82 it gives 0.875 and 0.9,
    the edges that the models were published with.
    Source: Wan 2.2 (Wan-Video 2025), whose README has the boundary between its experts at half of SNR_min.

    Args:
        stages: Number of stages; of the two experts that were published, 2.
        t_last: The noisiest time, whose SNR is shared out; the schedule's `t_max` when not given.
    """

    stages: int = attrs.field(default=3, validator=ge(2))
    t_last: float | None = attrs.field(default=None, validator=optional(gt(0)))

    def find(self, subject: Subject) -> Found:
        schedule = subject.schedule
        last = schedule.t_max if self.t_last is None else self.t_last
        if not schedule.t_min < last <= schedule.t_max:
            raise PartError(f"t_last = {last:g} lies outside the schedule's ({schedule.t_min:g}, {schedule.t_max:g}]")
        lowest = schedule.lam(last)
        if lowest >= 0:
            raise PartError(
                f"the noise at t = {last:g} is no stronger than the image (a ratio of {schedule.ratio(last):.3g}), so "
                "that its log-SNR has no shares below 0: set a larger t_last, or take uniform-lambda"
            )
        lams = [lowest * k / self.stages for k in range(1, self.stages)]
        shown = [lowest * k / SHOWN for k in range(SHOWN + 1)]
        curves = {"t": [schedule.t_of_lam(lam) for lam in shown], "compared": [2 * lam for lam in shown]}
        return Found(edges_t=tuple(schedule.t_of_lam(lam) for lam in lams), curves=curves)
