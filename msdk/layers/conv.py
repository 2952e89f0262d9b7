"""Convolutions and linear maps with the initialisation of score_sde."""

from torch import Tensor, nn


def variance_scaling_(weight: Tensor, scale: float) -> None:
    """Fills a weight [out, in, *kernel] with U(-a, a), a = sqrt(3 scale / mean(fan_in, fan_out)).

    Source: score_sde's default initialiser; a scale of 0 means 1e-10 there, and here.
    """
    receptive = weight[0, 0].numel()
    fan_average = receptive * (weight.shape[0] + weight.shape[1]) / 2
    bound = (3 * max(scale, 1e-10) / fan_average) ** 0.5
    nn.init.uniform_(weight, -bound, bound)


class Conv2d(nn.Conv2d):
    """A convolution that keeps the size of the image (before its stride), variance-scaled, with a bias of 0.

    Args:
        channels_in: Input channels.
        channels_out: Output channels.
        kernel: Side of the kernel, odd.
        stride: Stride.
        padding: Zeros around the image; half the kernel when not given.
        scale: Scale of the initial weights.
        paper_counted: Whether the paper's cost convention sees this layer (msdk.budgeting).
    """

    def __init__(
        self,
        channels_in: int,
        channels_out: int,
        kernel: int = 3,
        *,
        stride: int = 1,
        padding: int | None = None,
        scale: float = 1.0,
        paper_counted: bool = True,
    ) -> None:
        self.scale = scale
        super().__init__(
            channels_in, channels_out, kernel, stride=stride, padding=kernel // 2 if padding is None else padding
        )
        self.paper_counted = paper_counted

    def reset_parameters(self) -> None:
        variance_scaling_(self.weight, self.scale)
        if self.bias is not None:
            nn.init.zeros_(self.bias)


class Linear(nn.Linear):
    """A linear map, variance-scaled with scale 1, with a bias of 0."""

    def reset_parameters(self) -> None:
        variance_scaling_(self.weight, 1.0)
        nn.init.zeros_(self.bias)
