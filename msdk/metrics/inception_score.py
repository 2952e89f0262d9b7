"""The inception score."""

from typing import ClassVar

import attrs
from attrs.validators import ge

from msdk.errors import PartError
from msdk.metrics.base import Evidence, Found, Metric, Number


@attrs.frozen(kw_only=True)
class InceptionScore(Metric):
    """exp of the mean divergence of an image's classes from those of all images; mean and spread over splits.

    Logits are those without the bias of the last layer, and images are shuffled first, as in torch-fidelity. Real
    images have no part in it.
    Source: Salimans et al. 2016, arXiv 1606.03498.

    Args:
        splits: Of the images; the score of each is of its own images alone.
        shuffle: Whether images are shuffled before they are split.
        seed: Of the shuffle.
    """

    title: ClassVar[str] = "IS"
    reads: ClassVar = "logits"
    ordered: ClassVar[bool] = True

    splits: int = attrs.field(default=10, validator=ge(1))
    shuffle: bool = True
    seed: int = attrs.field(default=2020, validator=ge(0))

    def check(self, images: int, references: int) -> None:
        if images < self.splits:
            raise PartError(f"is takes {self.splits} splits of the images, and there are {images} of these: draw more")

    def score(self, evidence: Evidence) -> Found:
        import numpy as np
        import torch

        if evidence.generated is None or evidence.generated.logits is None:
            raise PartError("is needs an extractor with classes, such as inception or digits")
        logits = evidence.generated.logits.double()
        if self.shuffle:
            logits = logits[torch.from_numpy(np.random.RandomState(self.seed).permutation(len(logits)))]
        p, log_p = logits.softmax(1), logits.log_softmax(1)
        count, scores = len(logits), list[float]()
        for index in range(self.splits):
            part = slice(index * count // self.splits, (index + 1) * count // self.splits)
            apart = p[part] * (log_p[part] - p[part].mean(0, keepdim=True).log())
            scores.append(float(apart.sum(1).mean().exp()))
        return Found((Number("", float(np.mean(scores)), float(np.std(scores)), "higher"),))
