"""The encoders of score_sde: DDPM, DDPM++ and NCSN++."""

from typing import Literal

import attrs
from attrs.validators import ge

from msdk.encoders.unet import UNet, UNetPlan
from msdk.errors import PartError
from msdk.layers.families import ddpm_blocks, ddpmpp_blocks
from msdk.layers.style import FIR_TAPS, EmbeddingStyle


def _positive(_: object, __: object, levels: tuple[float, float, int] | None) -> None:
    if levels is not None and not (levels[0] > 0 and levels[1] > 0 and levels[2] > 0):
        raise ValueError(f"must be two noise levels and a count, all above 0, got {list(levels)}")


@attrs.frozen(kw_only=True)
class DDPMpp(UNet):
    """Down-sampling path and middle of DDPM++; the defaults are the deep CIFAR-10 net of the paper.

    `fir`, `pyramid` and 16 groups make the shared encoder of the paper's multistage net. The other fields are those of
    `msdk.encoders.unet.UNet`.
    Source: Song et al. 2021, arXiv 2011.13456, appendix H.

    Args:
        fir: Whether to down-sample with a FIR filter instead of a 2x2 mean.
        resampling: "block" resamples inside a residual block, "plain" between blocks.
        rescale: Whether sums of a block and its shortcut are multiplied by sqrt(1/2).
        pyramid: "residual" adds a convolved, down-sampled copy of the input at every level, "skip" a 1x1 map of it.
        embedding: "positional" of what the network is fed, or "fourier" of its logarithm.
        middle: Whether block, attention, block at the bottom belong to the encoder.
        unit_range: Whether images are in [0, 1]; the network then maps them to [-1, 1] itself.
        divide: Whether the prediction is divided by the noise level that the network is fed ("scale by sigma").
        noise_levels: (largest, smallest, count) of a geometric series of noise levels; the network is then fed their
            numbers, not the levels.
    """

    blocks: int = attrs.field(default=8, validator=ge(1))
    fir: bool = False
    resampling: Literal["block", "plain"] = "block"
    rescale: bool = True
    pyramid: Literal["none", "residual", "skip"] = "none"
    embedding: Literal["positional", "fourier"] = "positional"
    middle: bool = True
    unit_range: bool = False
    divide: bool = False
    noise_levels: tuple[float, float, int] | None = attrs.field(default=None, validator=_positive)

    def plan(self) -> UNetPlan:
        return UNetPlan(
            stem=self.channels,
            widths=self.widths(),
            style=ddpmpp_blocks(groups=self.groups, dropout=self.dropout, fir=self.fir, rescale=self.rescale),
            embedding=self._embedding(),
            resampling=self.resampling,
            pyramid=self.pyramid,
            pyramid_taps=FIR_TAPS if self.fir else None,
            middle=self.middle,
            unit_range=self.unit_range,
            output_scale=(self.noise_levels or "noise") if self.divide else None,
        )

    def check_noise(self, lowest: float, highest: float) -> None:
        _check_numbers(self.noise_levels if self.divide else None, lowest, highest)
        if lowest < 0 and (self.embedding == "fourier" or self.divide):
            raise PartError(
                f"it takes the logarithm of the noise level, or divides by it, but the parameterization feeds it "
                f"{lowest:.4g} at the schedule's end near the data: use the parameterization 'score' (fed sigma), or "
                'embedding = "positional" and divide = false'
            )

    def _embedding(self) -> EmbeddingStyle:
        fourier = self.embedding == "fourier"
        return EmbeddingStyle(
            kind=self.embedding,
            features=2 * self.channels if fourier else self.channels,
            width=4 * self.channels,
            log=fourier,
            fourier_parameter=True,
            classes=self.classes,
            augment=self.augment,
        )


@attrs.frozen(kw_only=True)
class NCSNpp(DDPMpp):
    """DDPM++ with NCSN++'s filter, input pyramid and Fourier features; fed sigma, and divided by it."""

    fir: bool = True
    pyramid: Literal["none", "residual", "skip"] = "residual"
    embedding: Literal["positional", "fourier"] = "fourier"
    divide: bool = True


@attrs.frozen(kw_only=True)
class DDPM(UNet):
    """Down-sampling path and middle of DDPM, as score_sde has it; the defaults are its CIFAR-10 net.

    Source: Ho et al. 2020, arXiv 2006.11239, appendix B.

    Args:
        conv_resample: Whether a level goes to the next by a convolution of stride 2, not by a mean.
        middle: Whether block, attention, block at the bottom belong to the encoder.
        unit_range: Whether images are in [0, 1]; the network then maps them to [-1, 1] itself.
        noise_levels: (largest, smallest, count) of a geometric series of noise levels whose numbers the network is fed;
            the prediction is then divided by the level.
    """

    blocks: int = attrs.field(default=2, validator=ge(1))
    conv_resample: bool = True
    middle: bool = True
    unit_range: bool = False
    noise_levels: tuple[float, float, int] | None = attrs.field(default=None, validator=_positive)

    def plan(self) -> UNetPlan:
        return UNetPlan(
            stem=self.channels,
            widths=self.widths(),
            style=ddpm_blocks(groups=self.groups, dropout=self.dropout),
            embedding=EmbeddingStyle(
                kind="positional",
                features=self.channels,
                width=4 * self.channels,
                classes=self.classes,
                augment=self.augment,
            ),
            resampling="conv-one-sided" if self.conv_resample else "plain",
            middle=self.middle,
            unit_range=self.unit_range,
            output_scale=self.noise_levels,
        )

    def check_noise(self, lowest: float, highest: float) -> None:
        _check_numbers(self.noise_levels, lowest, highest)


def _check_numbers(levels: tuple[float, float, int] | None, lowest: float, highest: float) -> None:
    """Raises `PartError` where the network is fed other things than numbers of its noise levels."""
    if levels is not None and not 0 <= lowest <= highest <= levels[2] - 1:
        raise PartError(
            f"noise_levels has {levels[2]} levels, numbered from 0, but the parameterization feeds the network "
            f"{lowest:.4g} to {highest:.4g}: use the parameterization 'score' with feed = 'index', steps = {levels[2]}"
        )
