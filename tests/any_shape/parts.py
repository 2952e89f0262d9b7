"""An encoder and a decoder for images of any number of axes, and data to train them on: a recipe's local code."""

import hashlib

import attrs

import msdk
from msdk.batch import Batch
from msdk.datasets.base import Dataset, Source
from msdk.decoders.base import Decoder
from msdk.encoders.base import Encoder, FeatureInfo, Features, Level


def convolution(axes, *arguments, **options):
    """A convolution over so many axes."""
    from torch import nn

    return (nn.Conv1d, nn.Conv2d, nn.Conv3d)[axes - 1](*arguments, padding=1, **options)


@msdk.encoders.add("waves")
@attrs.frozen(kw_only=True)
class Waves(Encoder):
    """Two levels of convolutions, the second of half the sides; sines of the noise level are added in front."""

    channels: int = 8

    def info(self, shape):
        levels = (Level(1, (self.channels,)), Level(2, (2 * self.channels,)))
        return FeatureInfo(levels, bottom=2 * self.channels, embedding=16)

    def build(self, shape):
        import torch
        from torch import nn

        class Net(nn.Module):
            def __init__(self, axes, channels):
                super().__init__()
                self.first = convolution(axes, shape[0], channels, 3)
                self.second = convolution(axes, channels, 2 * channels, 3, stride=2)
                self.embed = nn.Linear(16, channels)

            def forward(self, x, c_noise, label=None, augment=None):
                steps = torch.exp(-torch.arange(8, device=x.device, dtype=x.dtype) / 2)
                angles = c_noise.to(x.dtype)[:, None] * steps
                waves = torch.cat([angles.sin(), angles.cos()], 1)
                fine = self.first(x) + self.embed(waves).unflatten(1, (-1, *[1] * (x.ndim - 2)))
                coarse = self.second(nn.functional.silu(fine))
                return Features((fine, coarse), coarse, waves)

        return Net(len(shape) - 1, self.channels)


@msdk.decoders.add("waves")
@attrs.frozen(kw_only=True)
class WavesDecoder(Decoder):
    """The coarse level made large again beside the fine one, and a convolution of its own width."""

    channels: int = 8

    def check(self, info):
        if len(info.levels) != 2:
            raise msdk.MsdkError("needs two levels")

    def build(self, info, shape):
        import torch
        from torch import nn

        class Net(nn.Module):
            def __init__(self, axes, channels):
                super().__init__()
                self.wide = convolution(axes, info.bottom + info.levels[0].skips[0], channels, 3)
                self.last = convolution(axes, channels, shape[0], 3)

            def forward(self, features):
                fine, coarse = features.skips
                large = nn.functional.interpolate(coarse, size=fine.shape[2:], mode="nearest")
                return self.last(nn.functional.silu(self.wide(nn.functional.silu(torch.cat([large, fine], 1)))))

        return Net(len(shape) - 1, self.channels)


class Moving(Source):
    """One bright place per image, which moves along the last axis."""

    labels = None

    def __init__(self, shape, count):
        self.shape, self.count = shape, count
        self.digest = hashlib.sha256(repr((shape, count)).encode()).hexdigest()

    def __len__(self):
        return self.count

    def read(self, indices):
        import torch

        images = torch.zeros(len(indices), *self.shape, dtype=torch.uint8)
        for image, index in zip(images, indices, strict=True):
            image[..., index % self.shape[-1]] = 255
        return Batch(images)


@msdk.datasets.add("moving")
@attrs.frozen(kw_only=True)
class MovingData(Dataset):
    """Images of any shape."""

    sides: tuple[int, ...]
    count: int = 40

    @property
    def shape(self):
        return self.sides

    def open(self):
        return Moving(self.shape, self.count)
