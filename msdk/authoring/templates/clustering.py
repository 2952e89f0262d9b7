"""A clustering: a strategy that cuts time into stages."""

import math
from typing import ClassVar

import attrs
from attrs.validators import ge, gt

from msdk.clusterings.base import Clustering, Found, Need, Subject
from msdk.errors import PartError


@attrs.frozen(kw_only=True)
class MyClustering(Clustering):
    """Stages between times that are evenly spaced in log(1 + ratio / scale).

    Args:
        stages: Number of stages.
        scale: Ratio at which the spacing turns from even in the ratio to even in its logarithm.
    """

    # What `find` may ask the subject for, see `msdk.clusterings.base.Need`: {"data"}, {"calls"}, ..; here nothing.
    needs: ClassVar[frozenset[Need]] = frozenset()
    stages: int = attrs.field(default=3, validator=[ge(2)])
    scale: float = attrs.field(default=1.0, validator=gt(0))

    def find(self, subject: Subject) -> Found:
        if self.stages > 1000:
            raise PartError(f"{self.stages} stages are more than this strategy tells apart: ask for at most 1000")
        schedule = subject.schedule
        low, high = (math.log1p(schedule.ratio(t) / self.scale) for t in (schedule.t_min or 1e-6, schedule.t_max))
        marks = [low + (high - low) * stage / self.stages for stage in range(1, self.stages)]
        times = [schedule.t_of_ratio(self.scale * math.expm1(mark)) for mark in marks]
        return Found(edges_t=tuple(times), curves={"t": times, "compared": marks})
