"""What the transformer trunks share: the image as one sequence of patches, each a token of one width."""

from typing import ClassVar

import attrs
from attrs.validators import ge, gt

from msdk.encoders.base import Encoder, Shape
from msdk.errors import PartError
from msdk.layers.style import TransformerStyle


@attrs.frozen(kw_only=True)
class Transformer(Encoder):
    """Patches of the image, as tokens [batch, h w, width] of one level.

    Args:
        width: Channels of a token.
        heads: Attention heads.
        patch: Side of a patch in pixels.
        mlp_ratio: Width of the MLPs' hidden layer, as a multiple of `width`.
        classes: Classes of the labels; 0 makes the network unconditional.
        null_class: Whether "no class" has a learned vector of its own, as in the published DiT, instead of zeros.
    """

    axes: ClassVar[int | None] = 2

    width: int = attrs.field(default=768, validator=ge(4))
    heads: int = attrs.field(default=12, validator=ge(1))
    patch: int = attrs.field(default=4, validator=ge(1))
    mlp_ratio: float = attrs.field(default=4.0, validator=gt(0))
    classes: int = attrs.field(default=0, validator=ge(0))
    null_class: bool = False

    def style(self) -> TransformerStyle:
        """The sizes of the blocks."""
        return TransformerStyle(width=self.width, heads=self.heads, mlp_ratio=self.mlp_ratio)

    def check(self, shape: Shape) -> None:
        """Raises `PartError` where the image does not split into patches, or fields do not fit each other."""
        self.style().check()
        if any(side % self.patch for side in shape[1:]):
            raise PartError(
                f"an image of {shape[1]}x{shape[2]} cannot be cut into patches of {self.patch}x{self.patch}: set "
                "another `patch`, or another image size"
            )
        if self.null_class and not self.classes:
            raise PartError("null_class is the vector of a missing class, but there are no classes: set `classes`")
