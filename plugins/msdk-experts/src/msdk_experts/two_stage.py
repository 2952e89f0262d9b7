"""A denoiser for the last bit of noise, and a generator for all the rest."""

import attrs
from attrs.validators import gt, in_, lt

from msdk.clusterings.base import Clustering, Found, Subject


@attrs.frozen(kw_only=True)
class TwoStage(Clustering):
    """Two stages, cut at a fixed share of the time: below it the model only removes noise. Looks at no data.

    Source: Deja et al. 2022, arXiv 2206.00070, section 4: the split at a tenth of the steps.

    Args:
        stages: Two.
        share: Of the time from `t_min` to `t_max`.
    """

    stages: int = attrs.field(default=2, validator=in_((2,)))
    share: float = attrs.field(default=0.1, validator=[gt(0), lt(1)])

    def find(self, subject: Subject) -> Found:
        schedule = subject.schedule
        edge = schedule.t_min + self.share * (schedule.t_max - schedule.t_min)
        return Found(edges_t=(edge,), curves={"t": [edge]})
