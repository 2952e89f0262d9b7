"""The DDPM++ decoder of score_sde, of any width, behind any U-Net encoder."""

from typing import TYPE_CHECKING

import attrs
from attrs.validators import deep_iterable, ge, gt, le, lt, min_len, optional

from msdk.decoders.base import Decoder
from msdk.encoders.base import FeatureInfo, Shape
from msdk.errors import PartError
from msdk.layers.groups import group_count

if TYPE_CHECKING:
    from torch import nn


@attrs.frozen(kw_only=True)
class DDPMpp(Decoder):
    """Up-sampling path of a DDPM++ U-Net, with one residual block for each skip tensor of the encoder.

    Widths, attention and depth follow the encoder unless they are set; the width `channels` is the decoder's own.
    Source: Song et al. 2021, arXiv 2011.13456, appendix H; the paper's section 4.1 for decoders of their own width.

    Args:
        channels: Base width.
        channel_mult: Width of each level, finest first, as multiples of `channels`; the encoder's when not given.
        dropout: Dropout probability in the residual blocks.
        fir: Whether to up-sample with a FIR filter instead of repeating pixels.
        groups: Cap on the groups of the norms.
    """

    channels: int = attrs.field(default=128, validator=ge(4))
    channel_mult: tuple[int, ...] | None = attrs.field(
        default=None, validator=optional([min_len(1), deep_iterable(gt(0))])
    )
    dropout: float = attrs.field(default=0.1, validator=[ge(0), lt(1)])
    fir: bool = False
    groups: int = attrs.field(default=32, validator=[ge(1), le(1024)])

    def widths(self, info: FeatureInfo) -> tuple[int, ...]:
        """Channels of each level, finest first.

        Raises:
            PartError: `channel_mult` has another number of levels, or the encoder's widths are no whole multiples.
        """
        if self.channel_mult is not None:
            if len(self.channel_mult) != len(info.levels):
                raise PartError(f"channel_mult has {len(self.channel_mult)} entries for {len(info.levels)} levels")
            return tuple(self.channels * mult for mult in self.channel_mult)
        finest = info.levels[0].skips[-1]
        for index, level in enumerate(info.levels):
            if level.skips[-1] % finest:
                raise PartError(
                    f"level {index} of the encoder has {level.skips[-1]} channels, which is no whole multiple of the "
                    f"finest level's {finest}: give the decoder a channel_mult with {len(info.levels)} entries"
                )
        return tuple(self.channels * level.skips[-1] // finest for level in info.levels)

    def check(self, info: FeatureInfo) -> None:
        widths = self.widths(info)
        for index, level in enumerate(info.levels):
            if level.reduction != 2**index:
                raise PartError(
                    f"level {index} of the encoder has 1/{level.reduction} of the image's side, but ddpmpp doubles the "
                    f"side once per level and needs 1/{2**index} there"
                )
        for index, channels_in in self._blocks(info, widths):
            groups = group_count(channels_in, self.groups)
            if channels_in % groups:
                raise PartError(
                    f"level {index}: {channels_in} channels (its own and the encoder's skip) cannot be split into "
                    f"{groups} groups; set `groups`, say to 16, or another width"
                )

    def _blocks(self, info: FeatureInfo, widths: tuple[int, ...]) -> list[tuple[int, int]]:
        """(level, input channels) of every residual block, in the order in which they run."""
        before, found = info.bottom, list[tuple[int, int]]()
        for index in reversed(range(len(widths))):
            for skip in reversed(info.levels[index].skips):
                found.append((index, before + skip))
                before = widths[index]
        return found

    def build(self, info: FeatureInfo, shape: Shape) -> "nn.Module":
        from msdk.decoders.score_sde_net import DDPMppDecoder

        self.check(info)
        return DDPMppDecoder(self, info, self.widths(info), shape)
