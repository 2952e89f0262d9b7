"""The decoder of DiT."""

from typing import TYPE_CHECKING

import attrs
from attrs.validators import ge

from msdk.decoders.transformer import TransformerDecoder
from msdk.encoders.base import FeatureInfo, Shape
from msdk.errors import PartError

if TYPE_CHECKING:
    from torch import nn


@attrs.frozen(kw_only=True)
class DiT(TransformerDecoder):
    """Last blocks and final layer of DiT, behind a `dit` encoder of any width.

    A linear map leads from the encoder's width to the decoder's, where they differ. The condition keeps the encoder's
    width, and every block maps it to its own. The other fields are those of
    `msdk.decoders.transformer.TransformerDecoder`.
    Source: Peebles and Xie 2023, arXiv 2212.09748, section 3.2; the cut into encoder and decoders is ours.

    Args:
        depth: Blocks of the decoder, beside those of the encoder.
    """

    depth: int = attrs.field(default=6, validator=ge(0))

    def check_skips(self, skips: tuple[int, ...]) -> None:
        if skips:
            raise PartError(
                f"level 0 of the encoder has {len(skips)} long skips, which a `dit` decoder would drop: use a `uvit` "
                "decoder, or a `dit` encoder"
            )

    def build(self, info: FeatureInfo, shape: Shape) -> "nn.Module":
        from msdk.decoders.dit_net import DiTDecoder

        self.check(info)
        return DiTDecoder(self, info, shape)
