"""How far generated images are from those that were learned, and from each other."""

from typing import ClassVar

import attrs
from attrs.validators import gt, lt

from msdk.errors import PartError
from msdk.metrics.base import Evidence, Found, Metric, Number, features_of


@attrs.frozen(kw_only=True)
class Diversity(Metric):
    """The way to the nearest real image, over that between real images; the share of copies, and of duplicates.

    `novelty` is the mean distance of a generated image to the nearest real one, over the mean of a real one to the
    nearest other: near 0 the model repeats what it learned, near 1 its images are as new as real ones. A copy, or a
    duplicate, is nearer to a real image, or to another generated one, than `near` times that mean.
    Source: ours, after Heusel et al. 2017 and Carlini et al. 2023, arXiv 2301.13188.

    Args:
        near: Below which share of the mean distance between real neighbours images count as the same.
    """

    title: ClassVar[str] = "diversity"

    near: float = attrs.field(default=0.2, validator=[gt(0), lt(1)])

    def check(self, images: int, references: int) -> None:
        if min(images, references) < 2:
            raise PartError(f"diversity needs 2 images or more, there are {images} generated and {references} real")

    def score(self, evidence: Evidence) -> Found:
        from msdk.metrics.neighbours import nearest, nearest_among

        generated, reference = features_of(evidence)
        scale = float(nearest(reference.features, 1)[:, 0].sqrt().mean())
        if not scale:
            return Found((), ("every real image has a twin, so there is no distance to compare with",))
        to_real = nearest_among(generated.features, reference.features).sqrt() / scale
        to_each_other = nearest(generated.features, 1)[:, 0].sqrt() / scale
        copies, duplicates = (float((each < self.near).double().mean()) for each in (to_real, to_each_other))
        return Found(
            (
                Number("novelty", float(to_real.mean()), better="higher"),
                Number("copies", copies),
                Number("duplicates", duplicates),
            )
        )
