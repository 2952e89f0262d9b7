"""The decoder of ADM, as EDM has it."""

import attrs
from attrs.validators import ge

from msdk.decoders.unet import UNetDecoder, UNetDecoderPlan
from msdk.layers.families import adm_blocks


@attrs.frozen(kw_only=True)
class ADM(UNetDecoder):
    """Middle and up-sampling path of ADM; attention after every block of a level that attends.

    The other fields are those of `msdk.decoders.unet.UNetDecoder`.
    Source: Dhariwal and Nichol 2021, arXiv 2105.05233; Karras et al. 2022, arXiv 2206.00364, appendix F.

    Args:
        head_width: Channels per attention head; a level narrower than that has no attention.
        middle: Whether block, attention, block at the bottom belong to the decoder.
    """

    channels: int = attrs.field(default=192, validator=ge(4))
    head_width: int = attrs.field(default=64, validator=ge(1))
    middle: bool = True

    def plan(self) -> UNetDecoderPlan:
        return UNetDecoderPlan(
            style=adm_blocks(groups=self.groups, dropout=self.dropout, head_width=self.head_width),
            attend="all",
            middle=self.middle,
        )
