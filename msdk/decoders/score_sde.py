"""The decoders of score_sde: DDPM, DDPM++ and NCSN++, of any width, behind any U-Net encoder."""

from typing import Literal

import attrs

from msdk.decoders.unet import UNetDecoder, UNetDecoderPlan
from msdk.layers.families import ddpm_blocks, ddpmpp_blocks


@attrs.frozen(kw_only=True)
class DDPMpp(UNetDecoder):
    """Up-sampling path of DDPM++; attention once per level, after its last block.

    The other fields are those of `msdk.decoders.unet.UNetDecoder`.
    Source: Song et al. 2021, arXiv 2011.13456, appendix H.

    Args:
        fir: Whether to up-sample with a FIR filter instead of repeating pixels.
        resampling: "block" resamples inside a residual block, "plain" between blocks.
        rescale: Whether sums of a block and its shortcut are multiplied by sqrt(1/2).
        sum_outputs: Whether every level predicts an image, which are summed ("output skip").
        middle: Whether block, attention, block at the bottom belong to the decoder.
    """

    fir: bool = False
    resampling: Literal["block", "plain"] = "block"
    rescale: bool = True
    sum_outputs: bool = False
    middle: bool = False

    def plan(self) -> UNetDecoderPlan:
        return UNetDecoderPlan(
            style=ddpmpp_blocks(groups=self.groups, dropout=self.dropout, fir=self.fir, rescale=self.rescale),
            resampling=self.resampling,
            middle=self.middle,
            sum_outputs=self.sum_outputs,
        )


@attrs.frozen(kw_only=True)
class NCSNpp(DDPMpp):
    """DDPM++ with NCSN++'s filter."""

    fir: bool = True


@attrs.frozen(kw_only=True)
class DDPM(UNetDecoder):
    """Up-sampling path of DDPM, as score_sde has it; attention once per level, after its last block.

    The other fields are those of `msdk.decoders.unet.UNetDecoder`.
    Source: Ho et al. 2020, arXiv 2006.11239, appendix B.

    Args:
        conv_resample: Whether a convolution follows the repeated pixels.
        middle: Whether block, attention, block at the bottom belong to the decoder.
    """

    conv_resample: bool = True
    middle: bool = False

    def plan(self) -> UNetDecoderPlan:
        return UNetDecoderPlan(
            style=ddpm_blocks(groups=self.groups, dropout=self.dropout),
            resampling="conv" if self.conv_resample else "plain",
            middle=self.middle,
        )
