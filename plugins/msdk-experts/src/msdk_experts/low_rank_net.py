"""Low-rank changes of a network's weights."""

import math

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize


class Change(nn.Module):
    """W -> W + up down, W as a matrix [out, the rest].

    Args:
        weight: Whose shape it has.
        rank: Of the change; no more than the matrix has.
    """

    def __init__(self, weight: Tensor, rank: int) -> None:
        super().__init__()
        rows = weight.shape[0]
        columns = weight.numel() // rows
        rank = min(rank, rows, columns)
        self.down = nn.Parameter(torch.empty(rank, columns).normal_(std=1 / math.sqrt(columns)))
        self.up = nn.Parameter(torch.zeros(rows, rank))

    def forward(self, weight: Tensor) -> Tensor:
        return weight + (self.up @ self.down).view_as(weight)


def adapted(network: nn.Module, rank: int) -> nn.Module:
    """The network with everything frozen but a change of each convolution and linear layer."""
    for parameter in network.parameters():
        parameter.requires_grad_(False)
    layers = [layer for layer in network.modules() if isinstance(layer, (nn.Conv2d, nn.Linear))]
    for layer in layers:
        parametrize.register_parametrization(layer, "weight", Change(layer.weight, rank), unsafe=True)
    return network
