"""The network of an adapter."""

from torch import nn

from msdk.encoders.base import FeatureInfo, Features
from msdk.layers.conv import Conv2d


class AdapterNet(nn.Module):
    """See `msdk.encoders.adapter.Adapter`."""

    def __init__(self, given: FeatureInfo, wanted: FeatureInfo) -> None:
        super().__init__()
        pairs = [
            pair
            for before, after in zip(given.levels, wanted.levels, strict=True)
            for pair in zip(before.skips, after.skips, strict=True)
        ]
        self.skips = nn.ModuleList(Conv2d(before, after, 1) for before, after in pairs)
        self.bottom = Conv2d(given.bottom, wanted.bottom, 1)

    def forward(self, features: Features) -> Features:
        skips = tuple(conv(skip) for conv, skip in zip(self.skips, features.skips, strict=True))
        return features._replace(skips=skips, bottom=self.bottom(features.bottom))
