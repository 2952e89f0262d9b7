"""The decoder of U-ViT."""

from typing import TYPE_CHECKING

import attrs
from attrs.validators import ge

from msdk.decoders.transformer import TransformerDecoder
from msdk.encoders.base import FeatureInfo, Shape
from msdk.errors import PartError

if TYPE_CHECKING:
    from torch import nn


@attrs.frozen(kw_only=True)
class UViT(TransformerDecoder):
    """Out-blocks and head of U-ViT, behind a `uvit` encoder of any width: one block for each long skip.

    Each block starts with linear(cat[x, skip]), which also maps the encoder's width to the decoder's. The published
    multi-stage net has one final convolution for all decoders; here each has its own. The other fields are those of
    `msdk.decoders.transformer.TransformerDecoder`.
    Source: Bao et al. 2023, arXiv 2209.12152, section 3.
    """

    width: int = attrs.field(default=512, validator=ge(4))
    heads: int = attrs.field(default=8, validator=ge(1))

    def check_skips(self, skips: tuple[int, ...]) -> None:
        if not skips:
            raise PartError(
                "level 0 of the encoder has no long skips, and a `uvit` decoder has one block for each: use a `dit` "
                "decoder, or a `uvit` encoder"
            )

    def build(self, info: FeatureInfo, shape: Shape) -> "nn.Module":
        from msdk.decoders.uvit_net import UViTDecoder

        self.check(info)
        return UViTDecoder(self, info, shape)
