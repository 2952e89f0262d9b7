"""The encoder of ADM, as EDM has it."""

import attrs
from attrs.validators import deep_iterable, ge, gt, min_len

from msdk.encoders.unet import UNet, UNetPlan
from msdk.layers.families import adm_blocks, openai_embedding


@attrs.frozen(kw_only=True)
class ADM(UNet):
    """Down-sampling path of ADM; the defaults are EDM's ImageNet-64 net (set `classes = 1000` for its labels).

    The other fields are those of `msdk.encoders.unet.UNet`.
    Source: Dhariwal and Nichol 2021, arXiv 2105.05233; Karras et al. 2022, arXiv 2206.00364, appendix F.

    Args:
        head_width: Channels per attention head; a level narrower than that has no attention.
        embedding_mult: Width of the embedding, as a multiple of `channels`.
        middle: Whether block, attention, block at the bottom belong to the encoder.
    """

    channels: int = attrs.field(default=192, validator=ge(4))
    channel_mult: tuple[int, ...] = attrs.field(default=(1, 2, 3, 4), validator=[min_len(1), deep_iterable(gt(0))])
    blocks: int = attrs.field(default=3, validator=ge(1))
    attention: tuple[int, ...] = attrs.field(default=(32, 16, 8), validator=deep_iterable(gt(0)))
    head_width: int = attrs.field(default=64, validator=ge(1))
    embedding_mult: int = attrs.field(default=4, validator=ge(1))
    middle: bool = False

    def plan(self) -> UNetPlan:
        return UNetPlan(
            stem=self.channels * self.channel_mult[0],
            widths=self.widths(),
            style=adm_blocks(groups=self.groups, dropout=self.dropout, head_width=self.head_width),
            embedding=openai_embedding(
                self.channels, self.channels * self.embedding_mult, classes=self.classes, augment=self.augment
            ),
            middle=self.middle,
        )
