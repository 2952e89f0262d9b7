"""A timm backbone as the shared encoder of msdk's decoders."""

from itertools import takewhile
from typing import TYPE_CHECKING, ClassVar

import attrs
from attrs.validators import ge, min_len, optional

from msdk.encoders.base import Encoder, FeatureInfo, Level, Shape
from msdk.errors import PartError

if TYPE_CHECKING:
    from torch import nn

    from msdk_timm.backbone import FeatureMap

SMALLEST = 4
"""Shortest side in pixels of the coarsest level, where `levels` is not given."""


@attrs.frozen(kw_only=True)
class Timm(Encoder):
    """A stem at the image's own resolution, then the feature maps of a timm backbone, each told the noise level.

    Level 0 is a 3x3 convolution of this plugin, since msdk's decoders end at the image's resolution and backbones
    start below it. Every halving after it is one level: the backbone's last feature map of that size or, where it has
    none (ConvNeXt starts at a quarter of the side), a strided convolution of this plugin. Each level is one skip,
    x (1 + scale) + shift with a scale and a shift per channel that are linear in silu(embedding) and 0 at first. The
    middle is one residual block, so that the bottom differs from the last skip. Source: ours; the scale and shift are
    FiLM (Perez et al. 2018, arXiv 1709.07871).

    The backbone itself is not told the noise level, and it keeps its own norms. A batch norm sees all noise levels of
    a training batch at once: samples of a batch affect each other in training, and in eval mode they do not.

    `info` imports timm and torch, unlike the encoders of msdk, because only timm knows its feature maps.

    Args:
        backbone: Name of a timm model, as `timm.list_models()` spells it.
        pretrained: Start from timm's published weights, which must be in the cache of the Hugging Face hub or on a
            network that can be reached when the network is built. Nothing is loaded on the meta device.
        channels: Width of the stem and of the strided convolutions; the noise embedding has four times as many.
        levels: Feature maps of the backbone to use, finest first; when not given, all that leave every side whole and
            at least 4 pixels long.
    """

    axes: ClassVar[int | None] = 2

    backbone: str = attrs.field(validator=min_len(1))
    pretrained: bool = False
    channels: int = attrs.field(default=64, validator=ge(4))
    levels: int | None = attrs.field(default=None, validator=optional(ge(1)))

    def maps(self, shape: Shape) -> "tuple[FeatureMap, ...]":
        """The backbone's feature maps that are used for images of a shape, finest first.

        Raises:
            PartError: timm has no such backbone, or it does not suit the image.
        """
        from msdk_timm import backbone

        if self.pretrained:
            backbone.check_weights(self.backbone)
        found = backbone.feature_maps(self.backbone)
        size, sides = f"an image of {shape[1]}x{shape[2]}", ", ".join(f"1/{each.reduction}" for each in found)
        if self.levels is None:
            whole = takewhile(lambda each: not any(length % each.reduction for length in shape[1:]), found)
            used = tuple(each for each in whole if min(shape[1:]) // each.reduction >= SMALLEST)
            if not used:
                first = found[0].reduction
                raise PartError(
                    f"{size} does not suit the backbone '{self.backbone}', whose finest feature map has 1/{first} of "
                    f"the side: it needs multiples of {first}, and at least {SMALLEST * first} (or `levels`)"
                )
        else:
            if self.levels > len(found):
                raise PartError(
                    f"levels = {self.levels}, but the backbone '{self.backbone}' has {len(found)} feature maps, with "
                    f"{sides} of the side"
                )
            used = found[: self.levels]
            for index, each in enumerate(used):
                if any(length % each.reduction for length in shape[1:]):
                    fewer = f"at most levels = {index}, or " if index else ""
                    raise PartError(
                        f"{size} cannot be divided by {each.reduction} for feature map {index} of the backbone "
                        f"'{self.backbone}' ({sides} of the side): use {fewer}another image size"
                    )
        backbone.check_run(self.backbone, shape, used)
        return used

    def info(self, shape: Shape) -> FeatureInfo:
        maps = self.maps(shape)
        widths = {each.reduction: each.channels for each in maps}
        levels, reduction = [Level(1, (self.channels,))], 1
        while reduction < maps[-1].reduction:
            reduction *= 2
            levels.append(Level(reduction, (widths.get(reduction, self.channels),)))
        return FeatureInfo(tuple(levels), bottom=maps[-1].channels, embedding=4 * self.channels)

    def build(self, shape: Shape) -> "nn.Module":
        from msdk_timm.network import TimmEncoder

        return TimmEncoder(self, shape, self.info(shape))
