"""Stages of equal length in log-SNR."""

import attrs
from attrs.validators import ge, gt

from msdk.clusterings.base import Clustering, Found, Subject


@attrs.frozen(kw_only=True)
class UniformLambda(Clustering):
    """Stages between times that are evenly spaced in lam = log(alpha / sigma). Looks at no data.

    A sampler on a uniform-lambda grid makes the same number of steps in each.
    Source: the time grid is that of Lu et al. 2022, arXiv 2206.00927, section 3.3; as a cut, ours.

    Args:
        stages: Number of stages.
        t_first: Where the first stage starts, as lam has no bound near the data; the schedule's `t_min` if larger.
    """

    stages: int = attrs.field(default=3, validator=ge(2))
    t_first: float = attrs.field(default=1e-3, validator=gt(0))

    def find(self, subject: Subject) -> Found:
        schedule = subject.schedule
        first, last = (schedule.lam(t) for t in (max(self.t_first, schedule.t_min), schedule.t_max))
        lams = [first + (last - first) * k / self.stages for k in range(self.stages + 1)]
        edges = tuple(schedule.t_of_lam(lam) for lam in lams[1:-1])
        return Found(edges_t=edges, curves={"t": [schedule.t_of_lam(lam) for lam in lams], "compared": lams})
