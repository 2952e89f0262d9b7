"""What is asked of an evaluation."""

from collections.abc import Sequence
from pathlib import Path

import attrs

from msdk.extractors.base import Extractor
from msdk.metrics.base import Metric
from msdk.samplers.base import Sampler


@attrs.frozen(kw_only=True)
class Asked:
    """How a run is to be judged where something else is wanted than its recipe says; None leaves it to the recipe.

    Attributes:
        metrics: What is measured: metrics, or their names.
        extractor: What makes features, or its name.
        images: Generated images of a range of seeds.
        repeats: Ranges of seeds.
        checkpoint: Its iteration; the newest one when not given.
        weights: "ema" or "raw".
        sampler: How images are drawn: a sampler, or the name of one.
        steps: Intervals of its time grid.
        guidance: Weight of classifier-free guidance.
        seed: The first seed.
        samples: Images that were drawn elsewhere: a zip or a folder, in the place of the run's.
        reference: Real images: a zip or a folder, in the place of the recipe's.
        split: Which of the real images, see `msdk.recipe.Evaluation`.
    """

    metrics: Sequence[Metric | str] | None = None
    extractor: Extractor | str | None = None
    images: int | None = None
    repeats: int | None = None
    checkpoint: int | None = None
    weights: str | None = None
    sampler: Sampler | str | None = None
    steps: int | None = None
    guidance: float | None = None
    seed: int | None = None
    samples: str | Path | None = None
    reference: str | Path | None = None
    split: str | None = None
