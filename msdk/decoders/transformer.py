"""What the transformer decoders share: tokens of one level in, patches of the image out."""

import abc
from typing import ClassVar

import attrs
from attrs.validators import ge, gt

from msdk.decoders.base import Decoder
from msdk.encoders.base import FeatureInfo
from msdk.errors import PartError
from msdk.layers.style import TransformerStyle


@attrs.frozen(kw_only=True)
class TransformerDecoder(Decoder):
    """Further blocks of a width of their own, behind a transformer trunk.

    Args:
        width: Channels of a token; the decoder's own.
        heads: Attention heads.
        mlp_ratio: Width of the MLPs' hidden layer, as a multiple of `width`.
        variance: Whether a variance is predicted too: twice the image's channels, of which the denoiser uses the first.
    """

    axes: ClassVar[int | None] = 2

    width: int = attrs.field(default=768, validator=ge(4))
    heads: int = attrs.field(default=12, validator=ge(1))
    mlp_ratio: float = attrs.field(default=4.0, validator=gt(0))
    variance: bool = False

    def style(self) -> TransformerStyle:
        """The sizes of the blocks."""
        return TransformerStyle(width=self.width, heads=self.heads, mlp_ratio=self.mlp_ratio)

    def check(self, info: FeatureInfo) -> None:
        self.style().check()
        if info.tokens is None:
            raise PartError(
                "level 0 of the encoder has maps [batch, c, h, w], and this decoder takes tokens [batch, n, c]: "
                "use a U-Net decoder, or a transformer encoder (`dit`, `uvit`)"
            )
        if len(info.levels) != 1:
            raise PartError(
                f"the encoder has {len(info.levels)} levels, but a transformer decoder takes the tokens of one: use an "
                "encoder that keeps its resolution"
            )
        self.check_skips(info.levels[0].skips)

    @abc.abstractmethod
    def check_skips(self, skips: tuple[int, ...]) -> None:
        """Raises `PartError` where the decoder cannot use skips of these widths."""
