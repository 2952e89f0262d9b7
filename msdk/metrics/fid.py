"""Fréchet distances between Gaussians that are fitted to features."""

from pathlib import Path
from typing import ClassVar, Literal

import attrs

from msdk.errors import PartError
from msdk.extractors.base import Extractor
from msdk.extractors.dinov2 import DINOv2
from msdk.metrics.base import Evidence, Found, Metric, Number, features_of

ROUNDING = 1e-12
"""Variances below so much of the squared mean are rounding, in features of float32."""


@attrs.frozen(kw_only=True)
class FID(Metric):
    """|m1 - m2|^2 + tr(S1 + S2 - 2 (S1 S2)^1/2), of means and unbiased covariances of features, in float64.

    The trace of the root is the sum of the singular values of L1^T L2, where S = L L^T: exact also where covariances
    are singular. It is called FID by `inception` alone, `FD-digits` by `digits`; of fewer images than the 50,000 of
    published numbers, `FID-2k`.
    Source: Heusel et al. 2017, arXiv 1706.08500, Eq. 6.
    """

    title: ClassVar[str] = "FID"
    reads: ClassVar = "moments"

    def called(self, extractor: Extractor | None) -> str:
        return _called(extractor)

    def check(self, images: int, references: int) -> None:
        _check(images, references)

    def score(self, evidence: Evidence) -> Found:
        return _score(evidence)


@attrs.frozen(kw_only=True)
class FDDINOv2(Metric):
    """The distance of `fid` between features of DINOv2, which goes with what people see better than Inception's.

    Source: Stein et al. 2023, arXiv 2306.04675.

    Args:
        weights: The file of the weights, see the extractor `dinov2`.
        size: Of the network; published numbers are of "l".
        resize: How images become 224x224: by "pillow" or "torch".
    """

    title: ClassVar[str] = "FD-DINOv2"
    reads: ClassVar = "moments"

    weights: Path | None = None
    size: Literal["s", "b", "l", "g"] = "l"
    resize: Literal["pillow", "torch"] = "pillow"

    @property
    def own_extractor(self) -> Extractor:
        return DINOv2(weights=self.weights, size=self.size, resize=self.resize)

    def called(self, extractor: Extractor | None) -> str:
        return _called(extractor)

    def check(self, images: int, references: int) -> None:
        _check(images, references)

    def score(self, evidence: Evidence) -> Found:
        return _score(evidence)


def _called(extractor: Extractor | None) -> str:
    label = "" if extractor is None else extractor.label
    return f"FD-{label}" if label else "FID"


def _check(images: int, references: int) -> None:
    if min(images, references) < 2:
        raise PartError(f"a covariance needs 2 images or more, and there are {images} generated and {references} real")


def _score(evidence: Evidence) -> Found:
    from msdk.metrics.frechet import distance, moments_of

    if evidence.moments is None or evidence.generated is None:
        generated, reference = features_of(evidence)
        return _score(attrs.evolve(evidence, generated=generated, moments=moments_of(reference.features)))
    ours, theirs = moments_of(evidence.generated.features), evidence.moments
    notes: list[str] = []
    for moments, whose in ((ours, "generated"), (theirs, "real")):
        width = len(moments.mean)
        if moments.count <= width:
            notes.append(
                f"{moments.count:,} {whose} images have a covariance of rank {moments.count - 1} at most for {width:,} "
                "features: the distance is defined, and biased upwards all the more"
            )
        if moments.covariance.trace() <= ROUNDING * (moments.mean @ moments.mean):
            notes.append(f"the features of all {whose} images are equal")
    return Found((Number("", distance(ours, theirs)),), tuple(notes))
