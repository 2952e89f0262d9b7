"""The network of the decoder."""

from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812  the name every torch reader knows

from msdk.encoders.base import FeatureInfo, Features


class MyDecoderNet(nn.Module):
    """See `MyDecoder`.

    Args:
        info: The features that it will be given.
        channels: Width of every level.
        colours: Channels of the image.
    """

    def __init__(self, info: FeatureInfo, channels: int, colours: int) -> None:
        super().__init__()
        self.ends = [sum(len(level.skips) for level in info.levels[: index + 1]) for index in range(len(info.levels))]
        self.bottom = nn.Conv2d(info.bottom, channels, 1)
        self.skips = nn.ModuleList(nn.Conv2d(level.skips[-1], channels, 1) for level in info.levels)
        self.blocks = nn.ModuleList(nn.Conv2d(channels, channels, 3, padding=1) for _ in info.levels)
        self.shift = nn.Linear(info.embedding, channels)
        self.out = nn.Conv2d(channels, colours, 3, padding=1)

    def forward(self, features: Features) -> Tensor:
        """Features of a batch -> [batch, c, h, w]."""
        h = self.bottom(features.bottom) + self.shift(features.embedding)[:, :, None, None]
        for index in reversed(range(len(self.ends))):
            h = h + self.skips[index](features.skips[self.ends[index] - 1])
            h = h + self.blocks[index](F.silu(h))
            if index:
                h = F.interpolate(h, scale_factor=2.0)
        return self.out(F.silu(h))
