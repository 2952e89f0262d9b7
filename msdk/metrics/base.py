"""What a metric is: a spec that makes numbers of features, or of the denoiser itself."""

import abc
from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar, Literal

import attrs

from msdk.extractors.base import Extracted, Extractor

if TYPE_CHECKING:
    from msdk.batch import Batch
    from msdk.denoiser import Denoiser
    from msdk.metrics.frechet import Moments
    from msdk.recipe import Recipe

Better = Literal["lower", "higher"]


@attrs.frozen
class Number:
    """One number of a metric.

    Attributes:
        name: "precision", or "" for the number that is called like the metric.
        value: Of it.
        std: Its spread over the subsets that the metric draws; None where it draws none.
        better: Which way is better.
    """

    name: str
    value: float
    std: float | None = None
    better: Better = "lower"


@attrs.frozen
class Found:
    """What a metric found.

    Attributes:
        numbers: The most telling one first.
        notes: What a reader must know of them, sentences.
    """

    numbers: tuple[Number, ...]
    notes: tuple[str, ...] = ()


@attrs.frozen(kw_only=True, eq=False)
class Evidence:
    """What there is to judge by. A metric says by `reads` what it needs of it.

    Attributes:
        generated: Of generated images, in the order of their seeds.
        reference: Of real images, in the order of the data; of very many, an even choice.
        moments: Of all real images; None where they are those of `reference`.
        denoiser: In eval mode, as it was trained.
        recipe: Of the denoiser.
        real: Real images as the network sees them, with their conditions, on the denoiser's device.
        hashes: Of the content of each of these, which its noise follows from.
    """

    generated: Extracted | None = None
    reference: Extracted | None = None
    moments: "Moments | None" = None
    denoiser: "Denoiser | None" = None
    recipe: "Recipe | None" = None
    real: "Batch | None" = None
    hashes: Sequence[int] = ()


class Metric(abc.ABC):
    """Spec of a metric. Concrete ones are frozen attrs classes.

    Attributes:
        title: What its number is called in words, `FID`; behind it stands the extractor's label.
        reads: "features" of generated and real images; features and the real ones' "moments"; "logits" of generated
            ones; or the "denoiser" and real images.
        ordered: Whether its numbers depend on the order of the images, since it draws subsets of them by their place.
    """

    title: ClassVar[str]
    reads: ClassVar[Literal["features", "moments", "logits", "denoiser"]] = "features"
    ordered: ClassVar[bool] = False

    @abc.abstractmethod
    def score(self, evidence: Evidence) -> Found:
        """The numbers, computed in float64."""

    def check(self, images: int, references: int) -> None:  # noqa: B027  most need nothing
        """Raises `PartError` where so many generated and real images are too few."""

    @property
    def own_extractor(self) -> Extractor | None:
        """The extractor that it cannot be without; None where any will do."""
        return None

    def called(self, extractor: Extractor | None) -> str:
        """What its number is called by an extractor."""
        label = "" if extractor is None else extractor.label
        return f"{self.title}-{label}" if label else self.title


def features_of(evidence: Evidence) -> tuple[Extracted, Extracted]:
    """Generated and real features of evidence that has both."""
    if evidence.generated is None or evidence.reference is None:  # our own slip: `reads` says what is needed
        raise ValueError("a metric that reads features was given none")
    return evidence.generated, evidence.reference
