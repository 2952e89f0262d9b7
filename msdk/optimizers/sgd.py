"""Gradient descent with momentum."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import attrs
from attrs.validators import ge, lt

from msdk.optimizers.base import Optimizer

if TYPE_CHECKING:
    from torch import nn


@attrs.frozen(kw_only=True)
class SGD(Optimizer):
    """Stochastic gradient descent (Robbins and Monro 1951) with momentum (Sutskever et al. 2013).

    Args:
        momentum: Decay of the moving sum of gradients; 0 keeps none.
        nesterov: Whether the gradient is looked up one step ahead.
        weight_decay: Added to the gradient, times the weight.
    """

    momentum: float = attrs.field(default=0.9, validator=[ge(0), lt(1)])
    nesterov: bool = False
    weight_decay: float = attrs.field(default=0.0, validator=ge(0))

    @property
    def moments(self) -> int:
        return 1 if self.momentum else 0

    def build(self, parameters: "Sequence[nn.Parameter]", lr: float) -> Any:
        import torch

        nesterov = self.nesterov and self.momentum > 0
        return torch.optim.SGD(
            parameters, lr=lr, momentum=self.momentum, nesterov=nesterov, weight_decay=self.weight_decay
        )
