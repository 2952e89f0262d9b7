"""The decoder of latent diffusion's U-Net, after OpenAI's."""

from typing import Literal

import attrs
from attrs.validators import ge, lt

from msdk.decoders.unet import UNetDecoder, UNetDecoderPlan
from msdk.layers.families import ldm_blocks


@attrs.frozen(kw_only=True)
class LDM(UNetDecoder):
    """Up-sampling path of LDM's U-Net; attention after every block of a level that attends.

    The paper's multistage checkpoint has attention in decoder 0 alone: `attention = []` makes the others.
    The other fields are those of `msdk.decoders.unet.UNetDecoder`.
    Source: Rombach et al. 2022, arXiv 2112.10752; Nichol and Dhariwal 2021, arXiv 2102.09672.

    Args:
        head_width: Channels per attention head; with 0 there are `heads` heads.
        heads: Attention heads where `head_width` is 0.
        scale_shift: Whether the embedding scales and shifts behind the second norm, instead of being added before.
        resampling: "conv" after repeated pixels, "block" for residual blocks that resample, "plain" for neither.
        middle: Whether block, attention, block at the bottom belong to the decoder.
    """

    channels: int = attrs.field(default=224, validator=ge(4))
    dropout: float = attrs.field(default=0.0, validator=[ge(0), lt(1)])
    head_width: int = attrs.field(default=32, validator=ge(0))
    heads: int = attrs.field(default=1, validator=ge(1))
    scale_shift: bool = False
    resampling: Literal["conv", "block", "plain"] = "conv"
    middle: bool = False

    def plan(self) -> UNetDecoderPlan:
        return UNetDecoderPlan(
            style=ldm_blocks(
                groups=self.groups,
                dropout=self.dropout,
                heads=self.heads,
                head_width=self.head_width or None,
                scale_shift=self.scale_shift,
            ),
            attend="all",
            resampling=self.resampling,
            middle=self.middle,
        )
