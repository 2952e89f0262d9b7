"""The decoder of MEME's experts: a U-Net whose blocks mix convolution and attention in shares."""

import attrs
from attrs.validators import deep_iterable, ge, le, min_len

from msdk.decoders.ldm import LDM
from msdk.decoders.unet import UNetDecoderPlan
from msdk.encoders.base import FeatureInfo
from msdk.errors import PartError
from msdk.layers.families import iunet_blocks


@attrs.frozen(kw_only=True)
class IUNet(LDM):
    """Up-sampling path of iU-Net: LDM's, with convolution beside attention wherever that attends.

    The other fields are those of `msdk.decoders.ldm.LDM`.
    Source: Lee et al. 2023, arXiv 2306.04990, section 4; its blocks are those of Si et al. 2022, arXiv 2205.12956.

    Args:
        convolution: Share of the channels that convolution has, of each level, finest first, as in the encoder.
        pooled: Levels, from the finest, at which attention sees means of 2x2 pixels.
    """

    convolution: tuple[float, ...] = attrs.field(default=(0.5,), validator=[min_len(1), deep_iterable([ge(0), le(1)])])
    pooled: int = attrs.field(default=2, validator=ge(0))

    def plan(self) -> UNetDecoderPlan:
        plan = super().plan()
        style = iunet_blocks(plan.style, convolution=self.convolution, pooled=self.pooled)
        return attrs.evolve(plan, style=style)

    def check(self, info: FeatureInfo) -> None:
        if len(self.convolution) > len(info.levels):
            raise PartError(f"convolution has {len(self.convolution)} entries for {len(info.levels)} levels")
        super().check(info)
