"""The DDPM++ encoder of score_sde."""

from typing import TYPE_CHECKING, Literal

import attrs
from attrs.validators import deep_iterable, ge, gt, le, lt, min_len

from msdk.encoders.base import Encoder, FeatureInfo, Level, Shape
from msdk.errors import PartError
from msdk.layers.groups import group_count

if TYPE_CHECKING:
    from torch import nn


@attrs.frozen(kw_only=True)
class DDPMpp(Encoder):
    """Down-sampling path and middle of a DDPM++ U-Net; the defaults are the deep CIFAR-10 net of the paper.

    Per level: `blocks` residual blocks, with attention after each where the level's side is in `attention`; every
    block, the first convolution and every down-sampled map is a skip. The middle is block, attention, block.
    Source: Song et al. 2021, arXiv 2011.13456, appendix H; `fir`, `pyramid` and 16 groups make the shared encoder of
    the paper's multistage net.

    Args:
        channels: Base width.
        channel_mult: Width of each level, finest first, as multiples of `channels`.
        blocks: Residual blocks per level.
        attention: Sides in pixels at which to attend.
        dropout: Dropout probability in the residual blocks.
        fir: Whether to down-sample with a FIR filter instead of a 2x2 mean.
        pyramid: "residual" adds a down-sampled copy of the input at every level.
        groups: Cap on the groups of the norms.
    """

    channels: int = attrs.field(default=128, validator=ge(4))
    channel_mult: tuple[int, ...] = attrs.field(default=(1, 2, 2, 2), validator=[min_len(1), deep_iterable(gt(0))])
    blocks: int = attrs.field(default=8, validator=ge(1))
    attention: tuple[int, ...] = attrs.field(default=(16,), validator=deep_iterable(gt(0)))
    dropout: float = attrs.field(default=0.1, validator=[ge(0), lt(1)])
    fir: bool = False
    pyramid: Literal["none", "residual"] = "none"
    groups: int = attrs.field(default=32, validator=[ge(1), le(1024)])

    def widths(self) -> tuple[int, ...]:
        """Channels of each level, finest first."""
        return tuple(self.channels * mult for mult in self.channel_mult)

    def info(self, shape: Shape) -> FeatureInfo:
        side, levels = min(shape[1:]), list[Level]()
        before = self.channels
        for index, width in enumerate(self.widths()):
            if index and any(length % 2**index for length in shape[1:]):
                raise PartError(
                    f"an image of {shape[1]}x{shape[2]} cannot be halved {index} times for level {index} of "
                    f"{len(self.channel_mult)}: use at most {index} entries in channel_mult, or another image size"
                )
            for channels in (before, width):
                self._check_groups(channels, f"level {index}")
            levels.append(Level(2**index, (before, *[width] * self.blocks), (side >> index) in self.attention))
            before = width
        return FeatureInfo(tuple(levels), bottom=before, embedding=4 * self.channels)

    def build(self, shape: Shape) -> "nn.Module":
        from msdk.encoders.score_sde_net import DDPMppEncoder

        return DDPMppEncoder(self, shape, self.info(shape))

    def _check_groups(self, channels: int, where: str) -> None:
        groups = group_count(channels, self.groups)
        if channels % groups:
            raise PartError(f"{where}: {channels} channels cannot be split into {groups} groups; set another `groups`")
