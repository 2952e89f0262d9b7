"""1x1 convolutions between an encoder and decoders that want other widths."""

from typing import TYPE_CHECKING

import attrs
from attrs.validators import deep_iterable, ge, min_len

from msdk.encoders.base import FeatureInfo
from msdk.errors import PartError

if TYPE_CHECKING:
    from torch import nn


@attrs.frozen(kw_only=True)
class Adapter:
    """Maps every skip tensor, and the bottom tensor, to a width of its level; runs once behind the encoder.

    For encoders whose widths no decoder's groups divide, or that are wider than a decoder should pay for.

    Args:
        channels: Width of each level, finest first.
    """

    channels: tuple[int, ...] = attrs.field(validator=[min_len(1), deep_iterable(ge(1))])

    def info(self, info: FeatureInfo) -> FeatureInfo:
        """The features behind the adapter.

        Raises:
            PartError: The encoder gives tokens, or it has another number of levels.
        """
        if info.tokens is not None:
            raise PartError(
                "the encoder's features are tokens [batch, n, c], and an adapter convolves maps [batch, c, h, w]: "
                "leave it out, transformer decoders map the encoder's width to their own"
            )
        if len(self.channels) != len(info.levels):
            widths = ", ".join(str(level.skips[-1] if level.skips else info.bottom) for level in info.levels)
            raise PartError(
                f"channels has {len(self.channels)} entries, but the encoder has {len(info.levels)} levels, of widths "
                f"{widths}: give one width for each"
            )
        levels = tuple(
            attrs.evolve(level, skips=(width,) * len(level.skips))
            for level, width in zip(info.levels, self.channels, strict=True)
        )
        return attrs.evolve(info, levels=levels, bottom=self.channels[-1], base=0)

    def build(self, info: FeatureInfo) -> "nn.Module":
        """The network behind an encoder of such features."""
        from msdk.encoders.adapter_net import AdapterNet

        return AdapterNet(info, self.info(info))
