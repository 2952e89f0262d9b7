"""The encoder of latent diffusion's U-Net, after OpenAI's."""

from typing import Literal

import attrs
from attrs.validators import deep_iterable, ge, gt, lt, min_len

from msdk.encoders.unet import UNet, UNetPlan
from msdk.layers.families import ldm_blocks, openai_embedding


@attrs.frozen(kw_only=True)
class LDM(UNet):
    """Down-sampling path and middle of LDM's U-Net; the defaults are its CelebA-HQ 256 net on 64x64 latents.

    The other fields are those of `msdk.encoders.unet.UNet`.
    Source: Rombach et al. 2022, arXiv 2112.10752; Nichol and Dhariwal 2021, arXiv 2102.09672.

    Args:
        head_width: Channels per attention head; with 0 there are `heads` heads.
        heads: Attention heads where `head_width` is 0.
        scale_shift: Whether the embedding scales and shifts behind the second norm, instead of being added before.
        resampling: "conv" of stride 2, "block" for residual blocks that resample, "plain" for 2x2 means.
        middle: Whether block, attention, block at the bottom belong to the encoder.
    """

    channels: int = attrs.field(default=224, validator=ge(4))
    channel_mult: tuple[int, ...] = attrs.field(default=(1, 2, 3, 4), validator=[min_len(1), deep_iterable(gt(0))])
    blocks: int = attrs.field(default=2, validator=ge(1))
    attention: tuple[int, ...] = attrs.field(default=(32, 16, 8), validator=deep_iterable(gt(0)))
    dropout: float = attrs.field(default=0.0, validator=[ge(0), lt(1)])
    head_width: int = attrs.field(default=32, validator=ge(0))
    heads: int = attrs.field(default=1, validator=ge(1))
    scale_shift: bool = False
    resampling: Literal["conv", "block", "plain"] = "conv"
    middle: bool = True

    def plan(self) -> UNetPlan:
        return UNetPlan(
            stem=self.channels,
            widths=self.widths(),
            style=ldm_blocks(
                groups=self.groups,
                dropout=self.dropout,
                heads=self.heads,
                head_width=self.head_width or None,
                scale_shift=self.scale_shift,
            ),
            embedding=openai_embedding(self.channels, 4 * self.channels, classes=self.classes, augment=self.augment),
            resampling=self.resampling,
            middle=self.middle,
        )
