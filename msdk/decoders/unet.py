"""The up-sampling half of a U-Net: what the families share, and the plan in which each says what is its own."""

import abc
from typing import TYPE_CHECKING, ClassVar, Literal

import attrs
from attrs.validators import deep_iterable, ge, gt, le, lt, min_len, optional

from msdk.decoders.base import Decoder
from msdk.encoders.base import FeatureInfo, Shape
from msdk.errors import PartError
from msdk.layers.style import BlockStyle

if TYPE_CHECKING:
    from torch import nn


@attrs.frozen(kw_only=True)
class UNetDecoderPlan:
    """What a family decides about its decoder.

    Attributes:
        style: Of the blocks.
        attend: Whether levels that attend do so after every block, or after the last one alone.
        resampling: A residual block that resamples, repeated pixels with a convolution, or repeated pixels (or the
            style's filter) alone.
        middle: Whether the middle belongs to the decoder.
        sum_outputs: Whether every level predicts an image of its size, which are all summed.
    """

    style: BlockStyle
    attend: Literal["all", "last"] = "last"
    resampling: Literal["block", "conv", "plain"] = "block"
    middle: bool = False
    sum_outputs: bool = False


@attrs.frozen(kw_only=True)
class UNetDecoder(Decoder):
    """One residual block for each skip tensor of the encoder.

    Widths, attention and depth follow the encoder unless they are set; the width `channels` is the decoder's own.
    Source: the paper's section 4.1 for decoders of their own width.

    Args:
        channels: Base width.
        channel_mult: Width of each level, finest first, as multiples of `channels`; the encoder's when not given.
        attention: Reductions at which to attend, say [2] for half the image's side; where the encoder does when not
            given, [] for nowhere.
        dropout: Dropout probability in the residual blocks.
        groups: Cap on the groups of the norms.
        variance: Whether a variance is predicted too: twice the image's channels, of which the denoiser uses the first.
    """

    axes: ClassVar[int | None] = 2

    channels: int = attrs.field(default=128, validator=ge(4))
    channel_mult: tuple[int, ...] | None = attrs.field(
        default=None, validator=optional([min_len(1), deep_iterable(gt(0))])
    )
    attention: tuple[int, ...] | None = attrs.field(default=None, validator=optional(deep_iterable(gt(0))))
    dropout: float = attrs.field(default=0.1, validator=[ge(0), lt(1)])
    groups: int = attrs.field(default=32, validator=[ge(1), le(1024)])
    variance: bool = False

    @abc.abstractmethod
    def plan(self) -> UNetDecoderPlan:
        """What the family makes of the fields."""

    def widths(self, info: FeatureInfo) -> tuple[int, ...]:
        """Channels of each level, finest first.

        Raises:
            PartError: `channel_mult` has another number of levels, or the encoder's widths are no whole multiples.
        """
        if self.channel_mult is not None:
            if len(self.channel_mult) != len(info.levels):
                raise PartError(f"channel_mult has {len(self.channel_mult)} entries for {len(info.levels)} levels")
            return tuple(self.channels * mult for mult in self.channel_mult)
        finest = info.levels[0].skips[-1] if info.levels[0].skips else 0
        base = info.base or finest
        for index, level in enumerate(info.levels):
            if not level.skips:
                raise PartError(f"level {index} of the encoder has no skip tensors, and a U-Net decoder needs them")
            if level.skips[-1] % base:
                raise PartError(
                    f"level {index} of the encoder has {level.skips[-1]} channels, which is no whole multiple of the "
                    f"finest level's {base}: give the decoder a channel_mult with {len(info.levels)} entries"
                )
        return tuple(self.channels * level.skips[-1] // base for level in info.levels)

    def attends(self, info: FeatureInfo) -> tuple[bool, ...]:
        """Whether each level attends, finest first."""
        if self.attention is None:
            return tuple(level.attention for level in info.levels)
        return tuple(level.reduction in self.attention for level in info.levels)

    def check(self, info: FeatureInfo) -> None:
        if info.tokens is not None:
            raise PartError(
                "level 0 of the encoder has tokens [batch, n, c], but a U-Net decoder convolves maps [batch, c, h, w]: "
                "use a transformer decoder (`dit`, `uvit`), or an encoder that gives maps"
            )
        widths, plan = self.widths(info), self.plan()
        for index, level in enumerate(info.levels):
            if level.reduction != 2**index:
                raise PartError(
                    f"level {index} of the encoder has 1/{level.reduction} of the image's side, but a U-Net decoder "
                    f"doubles the side once per level and needs 1/{2**index} there"
                )
        for reduction in self.attention or ():
            if reduction not in [level.reduction for level in info.levels]:
                raise PartError(
                    f"attention at 1/{reduction} of the image's side, but the levels are "
                    f"{', '.join(f'1/{level.reduction}' for level in info.levels)}"
                )
        if plan.middle:
            plan.style.check(info.bottom, "the middle", attention=True)
        attends, before = self.attends(info), info.bottom
        for index in reversed(range(len(widths))):
            for skip in reversed(info.levels[index].skips):
                plan.style.check(before + skip, f"level {index} (its own channels and the encoder's {skip})")
                before = widths[index]
            plan.style.check(before, f"level {index}", attention=attends[index], level=index)

    def build(self, info: FeatureInfo, shape: Shape) -> "nn.Module":
        from msdk.decoders.unet_net import UNetDecoderNet

        self.check(info)
        outputs = shape[0] * (2 if self.variance else 1)
        return UNetDecoderNet(self.plan(), info, self.widths(info), self.attends(info), outputs)
