"""EDM's decoders after score_sde, of any width, behind any U-Net encoder."""

import attrs
from attrs.validators import deep_iterable, ge, gt, lt, min_len

from msdk.decoders.unet import UNetDecoder, UNetDecoderPlan
from msdk.layers.families import song_blocks
from msdk.layers.style import even_taps


@attrs.frozen(kw_only=True)
class SongDDPMpp(UNetDecoder):
    """Middle and up-sampling path of EDM's DDPM++; attention once per level, after its last block.

    The other fields are those of `msdk.decoders.unet.UNetDecoder`.
    Source: Karras et al. 2022, arXiv 2206.00364, appendix F.

    Args:
        taps: Filter for up-sampling; (1, 1) repeats pixels.
        sum_outputs: Whether every level predicts an image, which are summed.
        middle: Whether block, attention, block at the bottom belong to the decoder.
    """

    dropout: float = attrs.field(default=0.13, validator=[ge(0), lt(1)])
    taps: tuple[float, ...] = attrs.field(default=(1.0, 1.0), validator=[min_len(2), deep_iterable(gt(0)), even_taps])
    sum_outputs: bool = False
    middle: bool = True

    def plan(self) -> UNetDecoderPlan:
        return UNetDecoderPlan(
            style=song_blocks(groups=self.groups, dropout=self.dropout, taps=self.taps),
            middle=self.middle,
            sum_outputs=self.sum_outputs,
        )


@attrs.frozen(kw_only=True)
class SongNCSNpp(SongDDPMpp):
    """EDM's NCSN++: DDPM++ with a filter."""

    taps: tuple[float, ...] = attrs.field(
        default=(1.0, 3.0, 3.0, 1.0), validator=[min_len(2), deep_iterable(gt(0)), even_taps]
    )
