"""Handwritten digits, shipped inside the package."""

import hashlib
from collections.abc import Sequence
from importlib import resources
from typing import TYPE_CHECKING

import attrs

from msdk.batch import Batch
from msdk.datasets.base import Dataset, Source
from msdk.encoders.base import Shape

if TYPE_CHECKING:
    pass


class _Digits(Source):
    def __init__(self) -> None:
        import numpy as np
        import torch

        content = resources.files("msdk.datasets").joinpath("digits.npz")
        self.digest = hashlib.sha256(content.read_bytes()).hexdigest()
        with content.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            levels, labels = arrays["images"], arrays["labels"]
        self.labels = [int(label) for label in labels]
        # Sixteen ink levels become 0 .. 255.
        self._images = (torch.from_numpy(levels).float() * (255 / 16)).round().to(torch.uint8)[:, None]

    def __len__(self) -> int:
        return len(self._images)

    def read(self, indices: Sequence[int]) -> Batch:
        return self.labelled(self._images[list(indices)], indices)


@attrs.frozen(kw_only=True)
class Digits(Dataset):
    """1,797 digits of 43 writers, 8x8 pixels, 16 ink levels: enough to see every stage work on a laptop.

    Source: E. Alpaydin and C. Kaynak 1998, Optical Recognition of Handwritten Digits (test set), UCI Machine Learning
    Repository, https://doi.org/10.24432/C50P49, licence CC BY 4.0; see digits.LICENSE.md beside this file.
    """

    @property
    def shape(self) -> Shape:
        return 1, 8, 8

    def open(self) -> Source:
        return _Digits()
