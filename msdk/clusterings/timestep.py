"""Stages of similar length in time."""

from typing import ClassVar

import attrs
from attrs.validators import ge

from msdk.clusterings.base import Clustering, Found, Images, Progress
from msdk.clusterings.segmentation import grid, segment_by_middle
from msdk.schedules.base import Schedule


@attrs.frozen(kw_only=True)
class Timestep(Clustering):
    """Contiguous stages whose times are nearest to their middles. Looks at no data.

    Source: Go et al. 2023, arXiv 2306.00354, section 4.2; the paper's Table 4, "timestep".

    Args:
        stages: Number of stages.
        points: Points of the time grid.
    """

    looks_at_data: ClassVar[bool] = False
    stages: int = attrs.field(default=3, validator=ge(2))
    points: int = attrs.field(default=1000, validator=ge(4))

    def find(self, schedule: Schedule, images: Images, *, seed: int, device: str, progress: Progress) -> Found:
        times = grid(schedule.t_min, schedule.t_max, self.points)
        cuts = segment_by_middle(times, self.stages)
        return Found(tuple(times[cuts].tolist()), curves={})
