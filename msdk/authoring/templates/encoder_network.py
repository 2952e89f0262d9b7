"""The network of the encoder."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812  the name every torch reader knows

from msdk.encoders.base import Features


class MyEncoderNet(nn.Module):
    """See `MyEncoder`.

    Args:
        colours: Channels of the image.
        channels: Width of the first level.
    """

    def __init__(self, colours: int, channels: int) -> None:
        super().__init__()
        self.channels = channels
        self.embed = nn.Sequential(nn.Linear(channels, 4 * channels), nn.SiLU(), nn.Linear(4 * channels, 4 * channels))
        self.first = nn.Conv2d(colours, channels, 3, padding=1)
        self.second = nn.Conv2d(channels, 2 * channels, 3, padding=1, stride=2)
        self.middle = nn.Conv2d(2 * channels, 2 * channels, 3, padding=1)
        self.shifts = nn.ModuleList(nn.Linear(4 * channels, width) for width in (channels, 2 * channels))

    def forward(
        self, x: Tensor, c_noise: Tensor, label: Tensor | None = None, augment: Tensor | None = None
    ) -> Features:
        """X [batch, c, h, w], c_noise [batch] or [1]."""
        frequencies = torch.arange(self.channels // 2, device=x.device, dtype=x.dtype)
        angles = c_noise.to(x.dtype)[:, None] * torch.exp2(-frequencies)
        waves = torch.cat([angles.sin(), angles.cos()], dim=1)
        embedding = F.silu(self.embed(F.pad(waves, (0, self.channels - waves.shape[1]))))
        h = self.first(x) + self.shifts[0](embedding)[:, :, None, None]
        below = self.second(F.silu(h)) + self.shifts[1](embedding)[:, :, None, None]
        return Features((h, below), self.middle(F.silu(below)), embedding)
