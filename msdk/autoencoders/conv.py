"""The convolutional autoencoders of latent diffusion: what VQ and KL share."""

from typing import ClassVar

import attrs
from attrs.validators import deep_iterable, ge, gt, le, min_len

from msdk.autoencoders.base import Autoencoder
from msdk.encoders.base import Shape
from msdk.errors import PartError
from msdk.layers.families import autoencoder_blocks
from msdk.layers.style import BlockStyle


@attrs.frozen(kw_only=True)
class ConvAutoencoder(Autoencoder):
    """Residual blocks down to the latents, and residual blocks back up.

    Images of any size that can be halved often enough are taken, square or not.
    Source: Rombach et al. 2022, arXiv 2112.10752, appendix G, after Esser et al. 2021, arXiv 2012.09841.

    Args:
        weights: A .safetensors file of the module's own state dict, or a run folder that has one. Training needs it.
        channels: Base width.
        channel_mult: Width of each level, finest first, as multiples of `channels`; each level after the first halves
            the image.
        blocks: Residual blocks per level of the encoder; the decoder has one more.
        attention: Reductions at which to attend, say [4] for a quarter of the image's side; the middle always does.
        z_channels: Channels between encoder and decoder.
        latent_channels: Channels of the latents, behind a 1x1 convolution.
        groups: Groups of the norms.
        scale: Latents are multiplied by it before noise is added (LDM's scale factor).
    """

    axes: ClassVar[int | None] = 2

    channels: int = attrs.field(default=128, validator=ge(1))
    channel_mult: tuple[int, ...] = attrs.field(default=(1, 2, 4), validator=[min_len(1), deep_iterable(gt(0))])
    blocks: int = attrs.field(default=2, validator=ge(1))
    attention: tuple[int, ...] = attrs.field(default=(), validator=deep_iterable(gt(0)))
    z_channels: int = attrs.field(default=3, validator=ge(1))
    latent_channels: int = attrs.field(default=3, validator=ge(1))
    groups: int = attrs.field(default=32, validator=[ge(1), le(1024)])
    scale: float = attrs.field(default=1.0, validator=gt(0))

    def widths(self) -> tuple[int, ...]:
        """Channels of each level, finest first."""
        return tuple(self.channels * mult for mult in self.channel_mult)

    def attends(self) -> tuple[bool, ...]:
        """Whether each level attends, finest first."""
        return tuple(2**index in self.attention for index in range(len(self.channel_mult)))

    def style(self) -> BlockStyle:
        """Of all blocks."""
        return autoencoder_blocks(groups=self.groups)

    def latent_shape(self, shape: Shape) -> Shape:
        height, width = shape[1:]
        reductions = [2**index for index in range(len(self.channel_mult))]
        factor = reductions[-1]
        if height % factor or width % factor:
            raise PartError(
                f"images of {height}x{width} cannot be halved {len(reductions) - 1} times for {len(reductions)} "
                f"levels: use sides that {factor} divides, or fewer entries in channel_mult"
            )
        for reduction in self.attention:
            if reduction not in reductions:
                known = ", ".join(f"1/{known}" for known in reductions)
                raise PartError(f"attention at 1/{reduction} of the image's side, but the levels are {known}")
        for index, channels in enumerate(self.widths()):
            self.style().check(channels, f"level {index}")
        return self.latent_channels, height // factor, width // factor
