"""Inception-v3 as FID knows it, by torch-fidelity."""

from pathlib import Path
from typing import ClassVar, Literal

import attrs

from msdk.batch import Shape
from msdk.errors import PartError
from msdk.extractors.base import Extractor, Opened
from msdk.extractors.files import Published

PUBLISHED = Published(
    extractor="inception",
    what="Inception-v3 of 2015-12-05 (TensorFlow's), 95 MB, as torch-fidelity converted it",
    names=("weights-inception-2015-12-05-6726825d.pth",),
    place="https://github.com/toshas/torch-fidelity/releases/tag/v0.2.0",
    sha256="6726825d",
)


@attrs.frozen(kw_only=True)
class Inception(Extractor):
    """Features of Inception-v3 as TensorFlow computes them, by torch-fidelity (`msdk-diffusion[evaluation]`).

    Images become 299x299 by TensorFlow's bilinear resampling; grey ones have three equal channels. Nothing is
    downloaded.
    Source: Szegedy et al. 2015, arXiv 1512.00567; Heusel et al. 2017, arXiv 1706.08500.

    Args:
        weights: The file of the weights; `$MSDK_WEIGHTS` when not given, which may be a folder that holds it.
        layer: Width of the layer that is looked at; numbers of other layers than 2048 have no plain names.
        precision: What the network computes in; features are float32 all the same.
    """

    protocol: ClassVar[int] = 50_000

    weights: Path | None = None
    layer: Literal["64", "192", "768", "2048"] = "2048"
    precision: Literal["float32", "float64"] = "float32"

    @property
    def label(self) -> str:
        return "" if self.layer == "2048" else f"inception{self.layer}"

    def check(self, shape: Shape) -> None:
        if len(shape) != 3 or shape[0] not in (1, 3):
            raise PartError(
                f"the extractor 'inception' is for pictures, grey or in colour, not {' x '.join(map(str, shape))}"
            )

    def open(self, device: str = "cpu") -> Opened:
        from msdk.extractors.inception_net import opened

        return opened(self, device)
