"""Adam with decoupled weight decay."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import attrs
from attrs.validators import deep_iterable, ge, gt, lt

from msdk.optimizers.base import Optimizer

if TYPE_CHECKING:
    from torch import nn


@attrs.frozen(kw_only=True)
class AdamW(Optimizer):
    """Adam (Kingma and Ba 2015, arXiv 1412.6980), with decoupled weight decay if any (Loshchilov and Hutter 2019).

    Args:
        betas: Decay of the first and second moment.
        eps: Added to the root of the second moment.
        weight_decay: Decoupled weight decay, arXiv 1711.05101; 0 is Adam.
    """

    betas: tuple[float, float] = attrs.field(default=(0.9, 0.999), validator=deep_iterable([ge(0), lt(1)]))
    eps: float = attrs.field(default=1e-8, validator=gt(0))
    weight_decay: float = attrs.field(default=0.0, validator=ge(0))

    @property
    def moments(self) -> int:
        return 2

    def build(self, parameters: "Sequence[nn.Parameter]", lr: float) -> Any:
        import torch

        fused = all(parameter.is_floating_point() for parameter in parameters)  # there is none of complex numbers
        return torch.optim.AdamW(
            parameters, lr=lr, betas=self.betas, eps=self.eps, weight_decay=self.weight_decay, fused=fused
        )
