"""Stages that a sampler visits equally often."""

import itertools
import math
from typing import ClassVar

import attrs
from attrs.validators import ge

from msdk.clusterings.base import Clustering, Found, Need, Subject
from msdk.errors import PartError


@attrs.frozen(kw_only=True)
class EqualCost(Clustering):
    """Stages that take equal shares of the network calls of the recipe's sampler. Looks at no data.

    An edge lies at the geometric mean of the ratios of the calls on its two sides, so decoders of one cost would take
    the same part of sampling each. Calls at one time are never parted.
    Source: ours; the count of calls as weights is the paper's Table 2.

    Args:
        stages: Number of stages.
    """

    needs: ClassVar[frozenset[Need]] = frozenset({"calls"})
    stages: int = attrs.field(default=3, validator=ge(2))

    def find(self, subject: Subject) -> Found:
        schedule = subject.schedule
        calls = sorted(subject.calls())
        different = sorted(set(calls))
        if len(different) < self.stages:
            raise PartError(
                f"{self.stages} stages need as many calls at different times, but the sampler has {len(different)}: "
                "raise sampling.steps or lower stages"
            )
        below = list(itertools.accumulate(calls.count(t) for t in different))
        edges, gap = list[float](), 0
        for stage in range(1, self.stages):
            # Of the gaps between calls that leave enough of them for later stages, the one nearest to the equal share.
            wanted = len(calls) * stage / self.stages
            gaps = range(gap + 1, len(different) - (self.stages - stage) + 1)
            gap = min(gaps, key=lambda gap: abs(below[gap - 1] - wanted))
            low, high = schedule.ratio(different[gap - 1]), schedule.ratio(different[gap])
            edges.append(schedule.t_of_ratio(math.sqrt(low * high)))
        return Found(edges_t=tuple(edges), curves={"t": calls})
