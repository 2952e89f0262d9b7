"""Convolutions and linear maps with the initial weights of the published networks."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812  the name every torch reader knows

from msdk.layers.style import Init


def variance_scaling_(weight: Tensor, scale: float) -> None:
    """Fills a weight [out, in, *kernel] with U(-a, a), a = sqrt(3 scale / mean(fan_in, fan_out)).

    Source: score_sde's default initialiser; a scale of 0 means 1e-10 there, and here. EDM's Xavier law is the same.
    """
    receptive = weight[0, 0].numel()
    fan_average = receptive * (weight.shape[0] + weight.shape[1]) / 2
    bound = (3 * max(scale, 1e-10) / fan_average) ** 0.5
    nn.init.uniform_(weight, -bound, bound)


def _reset(layer: nn.Conv2d | nn.Linear, init: Init, scale: float) -> None:
    if init == "torch-all":
        return
    if init == "xavier":
        variance_scaling_(layer.weight, scale)
    elif scale == 0:
        nn.init.zeros_(layer.weight)
    if layer.bias is not None and (init == "xavier" or scale == 0):
        nn.init.zeros_(layer.bias)


class Conv2d(nn.Conv2d):
    """A convolution that keeps the size of the image (before its stride).

    Args:
        channels_in: Input channels.
        channels_out: Output channels.
        kernel: Side of the kernel, odd.
        stride: Stride.
        padding: Zeros around the image; half the kernel when not given.
        init: Law of the initial weights.
        scale: Scale of the initial weights under "xavier"; 0 starts at (almost) nothing, but for "torch-all".
        late_bias: Whether its owner adds the bias later on.
    """

    def __init__(
        self,
        channels_in: int,
        channels_out: int,
        kernel: int = 3,
        *,
        stride: int = 1,
        padding: int | None = None,
        init: Init = "xavier",
        scale: float = 1.0,
        late_bias: bool = False,
    ) -> None:
        self.init: Init = init
        self.scale = scale
        super().__init__(
            channels_in, channels_out, kernel, stride=stride, padding=kernel // 2 if padding is None else padding
        )
        self.late_bias = late_bias
        self.pointwise = kernel == 1 and stride == 1 and not self.padding[0]

    def forward(self, input: Tensor) -> Tensor:
        bias = None if self.late_bias else self.bias
        beside = input.device.type == "cpu" and input.is_contiguous(memory_format=torch.channels_last)
        # A trace is counted, and this is a convolution.
        traced = torch.jit.is_tracing()  # pyright: ignore[reportPrivateImportUsage]  public by its documentation
        if self.pointwise and beside and not traced:
            # A linear map of pixels that lie side by side: no kernel is made for each size of batch, as mixed stages
            # have a new one in every step.
            return F.linear(input.movedim(1, 3), self.weight.flatten(1), bias).movedim(3, 1)
        return self._conv_forward(input, self.weight, bias)

    def reset_parameters(self) -> None:
        if self.init == "torch-all" or (self.init == "torch" and self.scale):
            super().reset_parameters()
        _reset(self, self.init, self.scale)


class Linear(nn.Linear):
    """A linear map.

    Args:
        features_in: Input features.
        features_out: Output features.
        bias: Whether it has one.
        init: Law of the initial weights.
        scale: As in `Conv2d`.
    """

    def __init__(
        self, features_in: int, features_out: int, *, bias: bool = True, init: Init = "xavier", scale: float = 1.0
    ) -> None:
        self.init: Init = init
        self.scale = scale
        super().__init__(features_in, features_out, bias=bias)

    def reset_parameters(self) -> None:
        if self.init == "torch-all" or (self.init == "torch" and self.scale):
            super().reset_parameters()
        _reset(self, self.init, self.scale)
