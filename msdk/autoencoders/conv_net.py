"""The networks on both sides of the latents."""

from jaxtyping import Float
from torch import Tensor, nn

from msdk.autoencoders.conv import ConvAutoencoder
from msdk.layers.attention import attention
from msdk.layers.conv import Conv2d
from msdk.layers.resample import ConvDownsample, ConvUpsample
from msdk.layers.residual import Middle, OutputHead, ResidualBlock
from msdk.layers.style import BlockStyle


class Level(nn.Module):
    """The blocks of one resolution, then the way to the next."""

    def __init__(
        self, before: int, channels: int, blocks: int, style: BlockStyle, *, attends: bool, resample: nn.Module | None
    ) -> None:
        super().__init__()
        widths = [before, *[channels] * (blocks - 1)]
        self.blocks = nn.ModuleList(ResidualBlock(width, channels, style, embedding=None) for width in widths)
        self.attentions = nn.ModuleList(attention(channels, style) if attends else nn.Identity() for _ in widths)
        self.resample = resample

    def forward(self, h: Float[Tensor, "batch c h w"]) -> Float[Tensor, "batch d h2 w2"]:
        for block, attend in zip(self.blocks, self.attentions, strict=True):
            h = attend(block(h))
        return h if self.resample is None else self.resample(h)


class EncoderNet(nn.Module):
    """Images to the maps from which latents are made.

    Args:
        spec: Widths and depth.
        inputs: Channels of the images.
        outputs: Channels of the maps.
    """

    def __init__(self, spec: ConvAutoencoder, inputs: int, outputs: int) -> None:
        super().__init__()
        style, widths, attends = spec.style(), spec.widths(), spec.attends()
        self.stem = Conv2d(inputs, spec.channels, init=style.init)
        levels: list[Level] = []
        before = spec.channels
        for index, channels in enumerate(widths):
            down = ConvDownsample(channels, style, one_sided=True) if index < len(widths) - 1 else None
            levels.append(Level(before, channels, spec.blocks, style, attends=attends[index], resample=down))
            before = channels
        self.levels = nn.ModuleList(levels)
        self.middle = Middle(before, style, embedding=None)
        self.head = OutputHead(before, outputs, style)

    def forward(self, x: Float[Tensor, "batch c h w"]) -> Float[Tensor, "batch d h2 w2"]:
        h = self.stem(x)
        for level in self.levels:
            h = level(h)
        return self.head(self.middle(h))


class DecoderNet(nn.Module):
    """Maps of the latents to images.

    Args:
        spec: Widths and depth.
        outputs: Channels of the images.
    """

    def __init__(self, spec: ConvAutoencoder, outputs: int) -> None:
        super().__init__()
        style, widths, attends = spec.style(), spec.widths(), spec.attends()
        before = widths[-1]
        self.stem = Conv2d(spec.z_channels, before, init=style.init)
        self.middle = Middle(before, style, embedding=None)
        levels: list[Level] = []  # coarsest first
        for index in reversed(range(len(widths))):
            channels = widths[index]
            up = ConvUpsample(channels, style) if index else None
            levels.append(Level(before, channels, spec.blocks + 1, style, attends=attends[index], resample=up))
            before = channels
        self.levels = nn.ModuleList(levels)
        self.head = OutputHead(before, outputs, style)

    def forward(self, h: Float[Tensor, "batch c h w"]) -> Float[Tensor, "batch d h2 w2"]:
        h = self.middle(self.stem(h))
        for level in self.levels:
            h = level(h)
        return self.head(h)
