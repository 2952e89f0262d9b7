"""Halving and doubling the image: plain means and repeats, a finite-impulse-response (FIR) filter, or a convolution."""

from collections.abc import Sequence
from typing import ClassVar, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812  the name every torch reader knows

from msdk.layers.conv import Conv2d
from msdk.layers.style import FIR_TAPS, BlockStyle


class FIR(nn.Module):
    """Filters each channel with the outer product of `taps`, while halving or doubling the image if asked.

    The filter is a constant, so it is no part of a checkpoint; budgets list its cost apart from learned kernels.

    Args:
        taps: One-dimensional filter; its outer product is normalised to sum 1.
        resample: "up" inserts zeros and restores the mean, "down" keeps every second pixel, "none" keeps the size
            but for `padding`.
        padding: Zeros on each side; defaults to what makes the output exactly twice or half the input.
    """

    operator: ClassVar[str] = "conv_fir"
    taps: Tensor

    def __init__(
        self,
        resample: Literal["up", "down", "none"],
        *,
        taps: Sequence[float] = FIR_TAPS,
        padding: int | None = None,
    ) -> None:
        super().__init__()
        self.resample = resample
        self.padding = (len(taps) - 1) // 2 if padding is None else padding
        total = sum(taps) ** 2
        # In floats of Python: a division on the meta device would import torch's compiler, 1.2 s and 150 MB.
        square = [[first * second / total for second in taps] for first in taps]
        self.register_buffer("taps", torch.tensor(square), persistent=False)

    def forward(self, x: Float[Tensor, "batch c h w"]) -> Float[Tensor, "batch c h2 w2"]:
        channels = x.shape[1]
        kernel = self.taps.to(x.dtype).expand(channels, 1, -1, -1)
        if self.resample == "up":  # inserting zeros divides the mean by 4
            return F.conv_transpose2d(x, 4 * kernel, stride=2, padding=self.padding, groups=channels)
        stride = 2 if self.resample == "down" else 1
        return F.conv2d(x, kernel, stride=stride, padding=self.padding, groups=channels)


class Resample(nn.Module):
    """Halves ("down": mean of 2x2) or doubles ("up": repeat) the image without a filter."""

    def __init__(self, resample: Literal["up", "down"]) -> None:
        super().__init__()
        self.resample = resample

    def forward(self, x: Float[Tensor, "batch c h w"]) -> Float[Tensor, "batch c h2 w2"]:
        if self.resample == "up":
            return F.interpolate(x, scale_factor=2.0, mode="nearest")
        return F.avg_pool2d(x, 2)


def pool(x: Float[Tensor, "batch c h w"]) -> Float[Tensor, "batch c h2 w2"]:
    """Means of 2x2 pixels, times 2: an orthogonal projection, which keeps white noise white and its variance."""
    return 2 * F.avg_pool2d(x, 2)


def lift(x: Float[Tensor, "batch c h w"], times: int = 1) -> Float[Tensor, "batch c h2 w2"]:
    """The transpose of `pool`, so many times: pixels repeated, half as large. `pool(lift(x))` is x."""
    return x if not times else F.interpolate(x, scale_factor=float(2**times), mode="nearest") / 2**times


def resampling(resample: Literal["up", "down"], style: BlockStyle) -> FIR | Resample:
    """Resampling without weights: by the style's FIR filter where it has one."""
    return Resample(resample) if style.taps is None else FIR(resample, taps=style.taps)


class ConvDownsample(nn.Module):
    """A 3x3 convolution of stride 2, with zeros on all sides (LDM) or at the right and bottom alone (DDPM)."""

    def __init__(self, channels: int, style: BlockStyle, *, one_sided: bool, channels_in: int | None = None) -> None:
        super().__init__()
        self.one_sided = one_sided
        self.conv = Conv2d(channels_in or channels, channels, stride=2, padding=0 if one_sided else 1, init=style.init)

    def forward(self, x: Float[Tensor, "batch c h w"]) -> Float[Tensor, "batch d h2 w2"]:
        return self.conv(F.pad(x, (0, 1, 0, 1)) if self.one_sided else x)


class ConvUpsample(nn.Module):
    """Repeated pixels, then a 3x3 convolution (DDPM, LDM)."""

    def __init__(self, channels: int, style: BlockStyle) -> None:
        super().__init__()
        self.up = Resample("up")
        self.conv = Conv2d(channels, channels, init=style.init)

    def forward(self, x: Float[Tensor, "batch c h w"]) -> Float[Tensor, "batch c h2 w2"]:
        return self.conv(self.up(x))


class PyramidDownsample(nn.Module):
    """One level of the residual input pyramid: a FIR filter and a 3x3 convolution, halving the image once.

    Both orders are the same map. NCSN++ filters first and convolves with stride 2; EDM's copy convolves first, at four
    times the cost, which its published budgets contain.
    Source: NCSN++ (Song et al. 2021, arXiv 2011.13456, appendix H).

    Args:
        channels_in: Channels of the pyramid above.
        channels_out: Channels of the encoder at the level below.
        taps: The filter.
        conv_first: Whether the convolution comes first, as in EDM.
    """

    def __init__(self, channels_in: int, channels_out: int, *, taps: Sequence[float], conv_first: bool = False) -> None:
        super().__init__()
        reach = (len(taps) - 1) // 2
        self.conv_first = conv_first
        if conv_first:
            self.filter = FIR("down", taps=taps, padding=0)
            self.conv = Conv2d(channels_in, channels_out, padding=1 + reach, late_bias=True)
        else:
            self.filter = FIR("none", taps=taps, padding=1 + reach)
            self.conv = Conv2d(channels_in, channels_out, stride=2, padding=0)

    def forward(self, x: Float[Tensor, "batch c h w"]) -> Float[Tensor, "batch d h2 w2"]:
        if self.conv_first:
            assert self.conv.bias is not None
            return self.filter(self.conv(x)) + self.conv.bias[:, None, None]
        return self.conv(self.filter(x))
