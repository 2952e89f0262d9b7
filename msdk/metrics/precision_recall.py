"""Precision and recall of manifolds made of balls."""

from typing import ClassVar

import attrs
from attrs.validators import ge

from msdk.errors import PartError
from msdk.metrics.base import Evidence, Found, Metric, Number, features_of


@attrs.frozen(kw_only=True)
class PrecisionRecall(Metric):
    """Precision: the share of generated images in the manifold of the real ones; recall: the other way round.

    A manifold is the union of balls around its images, each as wide as the way to its k-th neighbour. k = 3 of 50,000
    images is the paper's, with features of VGG-16; k = 5 of 10,000 is common too, and another number.
    Source: Kynkaanniemi et al. 2019, arXiv 1904.06991.

    Args:
        neighbours: k.
    """

    title: ClassVar[str] = "precision-recall"

    neighbours: int = attrs.field(default=3, validator=ge(1))

    def check(self, images: int, references: int) -> None:
        if min(images, references) <= self.neighbours:
            raise PartError(
                f"precision-recall needs more images than neighbours, {self.neighbours}, and there are {images} "
                f"generated and {references} real"
            )

    def score(self, evidence: Evidence) -> Found:
        from msdk.metrics.neighbours import precision_recall

        generated, reference = features_of(evidence)
        precision, recall = precision_recall(generated.features, reference.features, self.neighbours)
        harmonic = 2 * precision * recall / max(precision + recall, 1e-5)
        named = {"precision": precision, "recall": recall, "f-score": harmonic}
        return Found(tuple(Number(name, value, better="higher") for name, value in named.items()))
