"""DINOv2, by timm."""

from pathlib import Path
from typing import ClassVar, Literal

import attrs

from msdk.batch import Shape
from msdk.errors import PartError
from msdk.extractors.base import Extractor, Opened
from msdk.extractors.files import Published

WIDTHS = {"s": 384, "b": 768, "l": 1024, "g": 1536}

PUBLISHED = {
    size: Published(
        extractor="dinov2",
        what=f"DINOv2's ViT-{size.upper()}/14 without registers",
        names=(f"dinov2_vit{size}14_pretrain.pth",),
        place=f"https://dl.fbaipublicfiles.com/dinov2/dinov2_vit{size}14/dinov2_vit{size}14_pretrain.pth",
    )
    for size in WIDTHS
}


@attrs.frozen(kw_only=True)
class DINOv2(Extractor):
    """The class token of DINOv2's transformer on 224x224 pixels, in timm's network. Nothing is downloaded.

    Images are resized by bicubic interpolation and normalised by ImageNet's means; grey ones have three equal channels.
    torch-fidelity has no way to take the weights from a file.
    Source: Oquab et al. 2023, arXiv 2304.07193; Stein et al. 2023, arXiv 2306.04675.

    Args:
        weights: The file of the weights; `$MSDK_WEIGHTS` when not given, which may be a folder that holds it.
        size: Of the network; published numbers are of "l".
        resize: By "pillow", in 8 bits, as dgm-eval; or by "torch", in float32 and antialiased, as EDM2's script.
    """

    protocol: ClassVar[int] = 50_000

    weights: Path | None = None
    size: Literal["s", "b", "l", "g"] = "l"
    resize: Literal["pillow", "torch"] = "pillow"

    @property
    def label(self) -> str:
        return "DINOv2" if self.size == "l" else f"DINOv2-{self.size}"

    def check(self, shape: Shape) -> None:
        if len(shape) != 3 or shape[0] not in (1, 3):
            raise PartError(
                f"the extractor 'dinov2' is for pictures, grey or in colour, not {' x '.join(map(str, shape))}"
            )

    def open(self, device: str = "cpu") -> Opened:
        from msdk.extractors.dinov2_net import opened

        return opened(self, device)
