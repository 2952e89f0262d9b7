"""The kernel distance."""

from typing import ClassVar, Literal

import attrs
from attrs.validators import ge, gt, optional

from msdk.errors import PartError
from msdk.metrics.base import Evidence, Found, Metric, Number, features_of


@attrs.frozen(kw_only=True)
class KID(Metric):
    """The squared maximum mean discrepancy of features, by its unbiased estimate; mean and spread over subsets.

    The kernel is (gamma x.y + coef0)^degree, gamma 1 over the number of features, or exp(-|x - y|^2 / (2 sigma^2)).
    Subsets are drawn as torch-fidelity draws them. It may be slightly below 0 for images that are alike.
    Source: Binkowski et al. 2018, arXiv 1801.01401.

    Args:
        subsets: How many are drawn.
        subset_size: Images of each, on either side.
        kernel: "poly", which published numbers are of, or "rbf".
        degree: Of the polynomial.
        gamma: Of the polynomial; 1 over the number of features when not given.
        coef0: Of the polynomial.
        sigma: Width of the other kernel.
        seed: Of the subsets.
    """

    title: ClassVar[str] = "KID"
    ordered: ClassVar[bool] = True

    subsets: int = attrs.field(default=100, validator=ge(1))
    subset_size: int = attrs.field(default=1000, validator=ge(2))
    kernel: Literal["poly", "rbf"] = "poly"
    degree: int = attrs.field(default=3, validator=ge(1))
    gamma: float | None = attrs.field(default=None, validator=optional(gt(0)))
    coef0: float = attrs.field(default=1.0, validator=ge(0))
    sigma: float = attrs.field(default=10.0, validator=gt(0))
    seed: int = attrs.field(default=2020, validator=ge(0))

    def check(self, images: int, references: int) -> None:
        if min(images, references) < self.subset_size:
            raise PartError(
                f"kid draws subsets of {self.subset_size:,} images (subset_size), and there are {images:,} generated "
                f"and {references:,} real: draw more, or make subset_size smaller, which gives other numbers"
            )

    def score(self, evidence: Evidence) -> Found:
        from msdk.metrics.kernel import discrepancies

        generated, reference = features_of(evidence)
        values = discrepancies(generated.features, reference.features, self)
        return Found((Number("", float(values.mean()), float(values.std())),))
