"""Group normalisation with the group count and epsilon of a style."""

from torch import nn

from msdk.layers.style import BlockStyle


def group_norm(channels: int, style: BlockStyle) -> nn.GroupNorm:
    """The caller checks that the channels divide (`BlockStyle.check`)."""
    return nn.GroupNorm(style.group_count(channels), channels, eps=style.eps)
