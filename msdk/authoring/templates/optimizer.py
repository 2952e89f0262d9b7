"""An optimiser: the spec that a recipe holds, and the rule that it makes."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import attrs
from attrs.validators import ge, lt

from msdk.optimizers.base import Optimizer

if TYPE_CHECKING:
    from torch import nn


@attrs.frozen(kw_only=True)
class MyOptimizer(Optimizer):
    """RMSprop (Tieleman and Hinton 2012): gradients divided by the root of their moving square.

    Args:
        decay: Of the moving square.
    """

    decay: float = attrs.field(default=0.99, validator=[ge(0), lt(1)])

    @property
    def moments(self) -> int:
        return 1

    def build(self, parameters: "Sequence[nn.Parameter]", lr: float) -> Any:
        # Imported here, not above: recipes are checked without torch, in a fraction of a second.
        import torch

        return torch.optim.RMSprop(parameters, lr=lr, alpha=self.decay)
