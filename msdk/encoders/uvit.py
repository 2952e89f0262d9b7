"""The trunk of U-ViT."""

from typing import TYPE_CHECKING

import attrs
from attrs.validators import ge

from msdk.encoders.base import FeatureInfo, Level, Shape
from msdk.encoders.transformer import Transformer
from msdk.errors import PartError

if TYPE_CHECKING:
    from torch import nn


@attrs.frozen(kw_only=True)
class UViT(Transformer):
    """Tokens, in-blocks and mid block of U-ViT; the defaults are its CIFAR-10 net (U-ViT-S/2).

    The class (if there are classes) and the noise level are tokens in front of the patches, all with a learned
    embedding of their place. The output of every in-block is a long skip. The other fields are those of
    `msdk.encoders.transformer.Transformer`.
    Source: Bao et al. 2023, arXiv 2209.12152, section 3.

    Args:
        depth: Blocks of the whole network without its mid block, as the paper counts them: one half are in-blocks
            here, the other half out-blocks of each decoder.
    """

    width: int = attrs.field(default=512, validator=ge(4))
    heads: int = attrs.field(default=8, validator=ge(1))
    patch: int = attrs.field(default=2, validator=ge(1))
    depth: int = attrs.field(default=12, validator=ge(2))

    def info(self, shape: Shape) -> FeatureInfo:
        self.check(shape)
        if self.depth % 2:
            raise PartError(f"depth is {self.depth}, but each in-block has its out-block: set an even number")
        return FeatureInfo(
            (Level(self.patch, (self.width,) * (self.depth // 2), attention=True),),
            bottom=self.width,
            embedding=self.width,
            classes=self.classes,
            tokens=2 if self.classes else 1,
        )

    def build(self, shape: Shape) -> "nn.Module":
        from msdk.encoders.uvit_net import UViTEncoder

        return UViTEncoder(self, shape, self.info(shape))
