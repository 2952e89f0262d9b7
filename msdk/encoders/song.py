"""EDM's encoders after score_sde: DDPM++ and NCSN++ with class and augmentation labels."""

from typing import Literal

import attrs
from attrs.validators import deep_iterable, ge, gt, min_len

from msdk.encoders.unet import UNet, UNetPlan
from msdk.layers.families import song_blocks
from msdk.layers.style import EmbeddingStyle, even_taps


@attrs.frozen(kw_only=True)
class SongDDPMpp(UNet):
    """Down-sampling path of EDM's DDPM++; the defaults are its CIFAR-10 net.

    It differs from score_sde's in labels, and in leaving the middle to the decoder. The other fields are those of
    `msdk.encoders.unet.UNet`.
    Source: Karras et al. 2022, arXiv 2206.00364, appendix F.

    Args:
        taps: Filter for down-sampling; (1, 1) is the 2x2 mean.
        pyramid: "residual" adds a convolved, down-sampled copy of the input at every level, "skip" a 1x1 map of it.
        embedding: "positional" or "fourier" features of what the network is fed.
        embedding_mult: Width of the embedding, as a multiple of `channels`.
        noise_mult: Features of the noise level, as a multiple of `channels`.
        middle: Whether block, attention, block at the bottom belong to the encoder.
    """

    channel_mult: tuple[int, ...] = attrs.field(default=(2, 2, 2), validator=[min_len(1), deep_iterable(gt(0))])
    dropout: float = attrs.field(default=0.13, validator=[ge(0), attrs.validators.lt(1)])
    taps: tuple[float, ...] = attrs.field(default=(1.0, 1.0), validator=[min_len(2), deep_iterable(gt(0)), even_taps])
    pyramid: Literal["none", "residual", "skip"] = "none"
    embedding: Literal["positional", "fourier"] = "positional"
    embedding_mult: int = attrs.field(default=4, validator=ge(1))
    noise_mult: int = attrs.field(default=1, validator=ge(1))
    middle: bool = False

    def plan(self) -> UNetPlan:
        return UNetPlan(
            stem=self.channels,
            widths=self.widths(),
            style=song_blocks(groups=self.groups, dropout=self.dropout, taps=self.taps),
            embedding=EmbeddingStyle(
                kind=self.embedding,
                features=self.channels * self.noise_mult,
                width=self.channels * self.embedding_mult,
                classes=self.classes,
                augment=self.augment,
            ),
            pyramid=self.pyramid,
            pyramid_taps=self.taps,
            pyramid_conv_first=True,
            middle=self.middle,
        )


@attrs.frozen(kw_only=True)
class SongNCSNpp(SongDDPMpp):
    """EDM's NCSN++: DDPM++ with a filter, a residual input pyramid and Fourier features."""

    taps: tuple[float, ...] = attrs.field(
        default=(1.0, 3.0, 3.0, 1.0), validator=[min_len(2), deep_iterable(gt(0)), even_taps]
    )
    pyramid: Literal["none", "residual", "skip"] = "residual"
    embedding: Literal["positional", "fourier"] = "fourier"
    noise_mult: int = attrs.field(default=2, validator=ge(1))
