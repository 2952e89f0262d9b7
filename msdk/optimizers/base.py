"""What an optimiser is: a spec that makes a `torch.optim.Optimizer` for the weights of a run."""

import abc
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import nn


class Optimizer(abc.ABC):
    """Spec of an optimiser. Concrete ones are frozen attrs classes.

    Learning rate and warmup are `training.lr` and `training.warmup`; training sets the rate of all groups each step.
    """

    @property
    @abc.abstractmethod
    def moments(self) -> int:
        """Numbers that it keeps for each weight, for estimates of memory: 2 for Adam."""

    @abc.abstractmethod
    def build(self, parameters: "Sequence[nn.Parameter]", lr: float) -> Any:
        """A `torch.optim.Optimizer` of these weights.

        What it keeps of a weight is to be tensors and numbers under `state`, and numbers under `param_groups`:
        checkpoints hold these.
        """
