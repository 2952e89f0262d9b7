"""A metric."""

from typing import ClassVar

import attrs
from attrs.validators import gt

from msdk.metrics.base import Evidence, Found, Metric, Number, features_of


@attrs.frozen(kw_only=True)
class MyMetric(Metric):
    """The energy distance of features: 2 E|x - y|^p - E|x - x'|^p - E|y - y'|^p.

    Source: Szekely and Rizzo 2013, Journal of Statistical Planning and Inference 143, 1249.

    Args:
        power: p, below 2.
    """

    title: ClassVar[str] = "energy"

    power: float = attrs.field(default=1.0, validator=gt(0))

    def score(self, evidence: Evidence) -> Found:
        import torch

        x, y = (each.features.double() for each in features_of(evidence))
        between, ours, theirs = (torch.cdist(a, b).pow(self.power).mean() for a, b in ((x, y), (x, x), (y, y)))
        return Found((Number("", float(2 * between - ours - theirs)),))
