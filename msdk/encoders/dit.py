"""The trunk of DiT."""

from typing import TYPE_CHECKING

import attrs
from attrs.validators import ge

from msdk.encoders.base import FeatureInfo, Level, Shape
from msdk.encoders.transformer import Transformer
from msdk.errors import PartError

if TYPE_CHECKING:
    from torch import nn


@attrs.frozen(kw_only=True)
class DiT(Transformer):
    """Embedders and first blocks of DiT; the defaults are one half of DiT-B/4, the other half being a `dit` decoder.

    Tokens are patches plus a fixed sine-cosine embedding of their place; noise level and class modulate every block
    (adaLN-zero). There are no skips: decoders go on from the last block. The other fields are those of
    `msdk.encoders.transformer.Transformer`.
    Source: Peebles and Xie 2023, arXiv 2212.09748, section 3.2.

    Args:
        depth: Blocks of the trunk; decoders have further ones.
    """

    depth: int = attrs.field(default=6, validator=ge(0))

    def info(self, shape: Shape) -> FeatureInfo:
        self.check(shape)
        if self.width % 4:
            raise PartError(
                f"a width of {self.width} cannot be split into sine and cosine of row and column for the position "
                "embedding: set a `width` that is a multiple of 4"
            )
        return FeatureInfo(
            (Level(self.patch, (), attention=True),),
            bottom=self.width,
            embedding=self.width,
            classes=self.classes,
            tokens=0,
        )

    def build(self, shape: Shape) -> "nn.Module":
        from msdk.encoders.dit_net import DiTEncoder

        self.info(shape)
        return DiTEncoder(self, shape)
