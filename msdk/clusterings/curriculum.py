"""Stages of equally many training images: the clusters of an easy-to-hard curriculum."""

import itertools
from typing import ClassVar

import attrs
from attrs.validators import ge

from msdk.clusterings.base import Clustering, Found, Need, Subject
from msdk.errors import PartError

SHOWN = 100
"""Pieces of the curve of shares."""


@attrs.frozen(kw_only=True)
class Curriculum(Clustering):
    """Stages to each of which the recipe's law of training times gives the same share of the images. Looks at no data.

    Edges are the quantiles k / stages of the law: even in time where times are drawn evenly, and those of a normal law
    of log sigma under EDM's. The noisiest stage is the easiest; `training.stage_draw = "curriculum"` begins with it and
    opens the others one by one.
    Source: Kim et al. 2024, arXiv 2403.10348, which opens 20 clusters of one network.

    Args:
        stages: Number of stages.
    """

    needs: ClassVar[frozenset[Need]] = frozenset({"draws"})
    stages: int = attrs.field(default=3, validator=ge(2))

    def find(self, subject: Subject) -> Found:
        edges = [subject.drawn(k / self.stages) for k in range(1, self.stages)]
        bounds = [subject.schedule.t_min, *edges, subject.schedule.t_max]
        if any(low >= high for low, high in itertools.pairwise(bounds)):
            raise PartError(
                f"the law of training times has not {self.stages} shares that end at different times inside the "
                "schedule: lower stages, or change training.noise"
            )
        shares = [k / SHOWN for k in range(1, SHOWN)]
        return Found(edges_t=tuple(edges), curves={"t": [subject.drawn(share) for share in shares], "drawn": shares})
