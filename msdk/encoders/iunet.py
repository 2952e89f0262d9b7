"""The encoder of MEME's experts: a U-Net whose blocks mix convolution and attention in shares."""

import attrs
from attrs.validators import deep_iterable, ge, le, min_len

from msdk.encoders.base import FeatureInfo, Shape
from msdk.encoders.ldm import LDM
from msdk.encoders.unet import UNetPlan
from msdk.errors import PartError
from msdk.layers.families import iunet_blocks


@attrs.frozen(kw_only=True)
class IUNet(LDM):
    """Down-sampling path and middle of iU-Net: LDM's, with convolution beside attention wherever that attends.

    Where noise is low an expert has more of convolution (high frequencies), where it is high more of attention; of each
    the finer levels have more of convolution. The other fields are those of `msdk.encoders.ldm.LDM`.
    Source: Lee et al. 2023, arXiv 2306.04990, section 4; its blocks are those of Si et al. 2022, arXiv 2205.12956.

    Args:
        convolution: Share of the channels that convolution has, of each level, finest first; the last one holds for all
            levels that follow, and for the middle. Rounded so that attention has whole heads.
        pooled: Levels, from the finest, at which attention sees means of 2x2 pixels.
    """

    convolution: tuple[float, ...] = attrs.field(default=(0.5,), validator=[min_len(1), deep_iterable([ge(0), le(1)])])
    pooled: int = attrs.field(default=2, validator=ge(0))

    def plan(self) -> UNetPlan:
        plan = super().plan()
        style = iunet_blocks(plan.style, convolution=self.convolution, pooled=self.pooled)
        return attrs.evolve(plan, style=style)

    def info(self, shape: Shape) -> FeatureInfo:
        if len(self.convolution) > len(self.channel_mult):
            raise PartError(f"convolution has {len(self.convolution)} entries for {len(self.channel_mult)} levels")
        return super().info(shape)
