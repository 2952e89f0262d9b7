"""`[evaluation]`: how the images of a run are judged."""

from typing import Literal

import attrs
from attrs.validators import ge, le

from msdk.datasets.base import Dataset
from msdk.extractors.base import Extractor
from msdk.metrics.base import Metric


@attrs.frozen(kw_only=True)
class Evaluation:
    """How images are judged; how they are drawn, `[sampling]` says.

    Args:
        metrics: What is measured; when not given, `fid` and `precision-recall`, and `denoising-loss` where images are
            held out.
        extractor: What makes features of images; when not given, `digits` of the digits and `inception` of others.
        images: Generated images of a range of seeds.
        repeats: Ranges of seeds, one behind the other; the spread over them is told. Three are what a claim needs.
        seed: The first seed.
        weights: The average that is sampled ("ema"; the last weights where none are kept), or the last ones ("raw").
        reference: The real images; those of the recipe when not given.
        split: Which of these: "all", the "trained" ones, or those "held-out" by `held_out` of the data.
    """

    metrics: tuple[Metric, ...] = ()
    extractor: Extractor | None = None
    images: int = attrs.field(default=50_000, validator=[ge(2), le(10_000_000)])
    repeats: int = attrs.field(default=1, validator=[ge(1), le(100)])
    seed: int = attrs.field(default=0, validator=ge(0))
    weights: Literal["ema", "raw"] = "ema"
    reference: Dataset | None = None
    split: Literal["all", "trained", "held-out"] = "all"
