"""Stages of similar length in time."""

from typing import TYPE_CHECKING

import attrs

from msdk.clusterings.base import Subject
from msdk.clusterings.segmentation import GridClustering
from msdk.schedules.clocks import Clock

if TYPE_CHECKING:
    from torch import Tensor


@attrs.frozen(kw_only=True)
class Timestep(GridClustering):
    """Contiguous stages whose times are nearest to their middles. Looks at no data.

    Times are read on the schedule's own clock: t itself, or ratio^(1/7) where t is a noise level.
    The other fields are those of `msdk.clusterings.segmentation.GridClustering`.
    Source: Go et al. 2023, arXiv 2306.00354, section 4.2; the paper's Table 4, "timestep".
    """

    def values(self, subject: Subject, times: "Tensor") -> "Tensor":
        return Clock.of(subject.schedule).reading(times)
