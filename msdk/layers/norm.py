"""Group normalisation with the group count of DDPM++."""

from torch import nn

from msdk.layers.groups import group_count


def group_norm(channels: int, groups: int) -> nn.GroupNorm:
    """Group norm over `group_count` groups with epsilon 1e-6. The caller checks that the channels divide."""
    return nn.GroupNorm(group_count(channels, groups), channels, eps=1e-6)
