"""The residual and attention blocks of the published families, as styles."""

import math

import attrs

from msdk.layers.style import FIR_TAPS, BlockStyle, EmbeddingStyle


def ddpmpp_blocks(*, groups: int, dropout: float, fir: bool, rescale: bool = True) -> BlockStyle:
    """Blocks of DDPM++ and NCSN++: sums are rescaled by sqrt(1/2), and EDM kept them for its own copies."""
    return BlockStyle(
        groups=groups,
        dropout=dropout,
        taps=FIR_TAPS if fir else None,
        skip_scale=math.sqrt(0.5) if rescale else 1.0,
    )


def ddpm_blocks(*, groups: int, dropout: float) -> BlockStyle:
    """Blocks of DDPM: a fixed number of groups, plain sums, and shortcuts that score_sde starts at a scale of 0.1."""
    return BlockStyle(groups=groups, group_width=1, dropout=dropout, skip_scale=1.0, shortcut_scale=0.1, family="ddpm")


def song_blocks(*, groups: int, dropout: float, taps: tuple[float, ...]) -> BlockStyle:
    """Blocks of EDM's SongUNet: those of DDPM++."""
    # A filter of two equal taps is the 2x2 mean, and upwards the repeated pixel: no filter at all is cheaper.
    return BlockStyle(
        groups=groups,
        dropout=dropout,
        taps=None if len(taps) == 2 and len(set(taps)) == 1 else taps,
        family="song",
    )


def adm_blocks(*, groups: int, dropout: float, head_width: int) -> BlockStyle:
    """Blocks of ADM: scale and shift behind the second norm, plain sums, heads of a fixed width."""
    return BlockStyle(
        groups=groups,
        eps=1e-5,
        skip_scale=1.0,
        modulation="scale-shift",
        project_resampled=False,
        dropout=dropout,
        head_width=head_width,
        init="torch",
        family="adm",
    )


def ldm_blocks(*, groups: int, dropout: float, heads: int, head_width: int | None, scale_shift: bool) -> BlockStyle:
    """Blocks of LDM: a fixed number of groups, plain sums, shortcuts only where the width changes."""
    return BlockStyle(
        groups=groups,
        group_width=1,
        eps=1e-5,
        skip_scale=1.0,
        modulation="scale-shift" if scale_shift else "shift",
        project_resampled=False,
        dropout=dropout,
        heads=heads,
        head_width=head_width,
        init="torch",
        family="ldm",
    )


def iunet_blocks(style: BlockStyle, *, convolution: tuple[float, ...], pooled: int) -> BlockStyle:
    """Blocks of iU-Net: LDM's, with convolution beside attention."""
    return attrs.evolve(style, convolution=convolution, pooled=pooled, family="iunet")


def openai_embedding(features: int, width: int, *, classes: int, augment: int) -> EmbeddingStyle:
    """The embedding of ADM and LDM, after OpenAI's: classes are a table of vectors behind the second layer."""
    return EmbeddingStyle(
        kind="timestep",
        features=features,
        width=width,
        classes=classes,
        augment=augment,
        label_at="output",
        label_bias=False,
        label_scale=False,
        init="torch",
    )


def autoencoder_blocks(*, groups: int) -> BlockStyle:
    """Blocks of LDM's autoencoders: a fixed number of groups, plain sums, one head, and torch's own initial weights."""
    return BlockStyle(groups=groups, group_width=1, skip_scale=1.0, init="torch-all", family="autoencoder")
