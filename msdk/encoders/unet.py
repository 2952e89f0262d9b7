"""The down-sampling half of a U-Net: what the families share, and the plan in which each says what is its own."""

import abc
import math
from typing import TYPE_CHECKING, ClassVar, Literal

import attrs
from attrs.validators import deep_iterable, ge, gt, le, lt, min_len

from msdk.encoders.base import Encoder, FeatureInfo, Level, Shape
from msdk.errors import PartError
from msdk.layers.style import BlockStyle, EmbeddingStyle

if TYPE_CHECKING:
    from torch import nn

Resampling = Literal["block", "conv", "conv-one-sided", "plain"]
"""How a level goes to the next: a residual block that resamples (BigGAN), a 3x3 convolution of stride 2 with zeros on
all sides (LDM) or at the right and bottom alone (DDPM), or means and repeats (a filter, if the style has taps)."""


@attrs.frozen(kw_only=True)
class UNetPlan:
    """All that the network needs to know; made by the spec of a family.

    Attributes:
        stem: Channels after the first convolution.
        widths: Channels of each level, finest first.
        style: Of the blocks.
        embedding: Of noise level and labels.
        resampling: How a level goes to the next.
        pyramid: "residual" adds convolved copies of the input, level by level; "skip" maps a small copy of the input
            into each level.
        pyramid_taps: Filter of a residual pyramid; None for a convolution of stride 2 alone.
        pyramid_conv_first: See `msdk.layers.resample.PyramidDownsample`.
        middle: Whether the middle belongs to the encoder.
        unit_range: Whether images come in [0, 1] and are mapped to [-1, 1] first.
        output_scale: What the prediction is multiplied with: nothing, 1/c_noise, or 1 / table[c_noise] for a table of
            `(largest, smallest, count)` noise levels in a geometric series.
    """

    stem: int
    widths: tuple[int, ...]
    style: BlockStyle
    embedding: EmbeddingStyle
    resampling: Resampling = "block"
    pyramid: Literal["none", "residual", "skip"] = "none"
    pyramid_taps: tuple[float, ...] | None = None
    pyramid_conv_first: bool = False
    middle: bool = True
    unit_range: bool = False
    output_scale: Literal["noise"] | tuple[float, float, int] | None = None


@attrs.frozen(kw_only=True)
class UNet(Encoder):
    """Per level: residual blocks, with attention after each where the level's side is in `attention`.

    Every block, the first convolution and every down-sampled map is a skip.

    Args:
        channels: Base width.
        channel_mult: Width of each level, finest first, as multiples of `channels`.
        blocks: Residual blocks per level.
        attention: Sides in pixels at which to attend.
        dropout: Dropout probability in the residual blocks.
        groups: Cap on the groups of the norms.
        classes: Classes of the labels; 0 makes the network unconditional.
        augment: Augmentation labels per image; 0 takes none.
    """

    axes: ClassVar[int | None] = 2

    channels: int = attrs.field(default=128, validator=ge(4))
    channel_mult: tuple[int, ...] = attrs.field(default=(1, 2, 2, 2), validator=[min_len(1), deep_iterable(gt(0))])
    blocks: int = attrs.field(default=4, validator=ge(1))
    attention: tuple[int, ...] = attrs.field(default=(16,), validator=deep_iterable(gt(0)))
    dropout: float = attrs.field(default=0.1, validator=[ge(0), lt(1)])
    groups: int = attrs.field(default=32, validator=[ge(1), le(1024)])
    classes: int = attrs.field(default=0, validator=ge(0))
    augment: int = attrs.field(default=0, validator=ge(0))

    @abc.abstractmethod
    def plan(self) -> UNetPlan:
        """What the family makes of the fields."""

    def widths(self) -> tuple[int, ...]:
        """Channels of each level, finest first."""
        return tuple(self.channels * mult for mult in self.channel_mult)

    def info(self, shape: Shape) -> FeatureInfo:
        plan, side, levels = self.plan(), min(shape[1:]), list[Level]()
        before = plan.stem
        for index, width in enumerate(plan.widths):
            if index and any(length % 2**index for length in shape[1:]):
                raise PartError(
                    f"an image of {shape[1]}x{shape[2]} cannot be halved {index} times for level {index} of "
                    f"{len(plan.widths)}: use at most {index} entries in channel_mult, or another image size"
                )
            attends = (side >> index) in self.attention
            pixels = math.prod(length >> index for length in shape[1:])
            plan.style.check(before, f"level {index}")
            plan.style.check(width, f"level {index}", attention=attends, pixels=pixels, level=index)
            levels.append(Level(2**index, (before, *[width] * self.blocks), attends))
            before = width
        if plan.middle:
            plan.style.check(before, "the middle", attention=True)
        return FeatureInfo(
            tuple(levels),
            bottom=before,
            embedding=plan.embedding.width,
            classes=self.classes,
            augment=self.augment,
            base=self.channels,
        )

    def build(self, shape: Shape) -> "nn.Module":
        from msdk.encoders.unet_net import UNetEncoder

        return UNetEncoder(self.plan(), shape, self.info(shape))
