"""Averaged weights."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn


class EMA:
    """Exponential moving average of a module's parameters: e <- d e + (1 - d) w, d = min(decay, (1 + n) / (10 + n)).

    torch's own AveragedModel reads its step counter from the device at every update, which waits for the device.
    Source: score_sde (Song et al. 2021, arXiv 2011.13456), which ramps the decay up the same way.

    Args:
        module: Its parameters are averaged; its buffers are taken as they are.
        decay: Largest decay; 0 keeps the last weights.
    """

    def __init__(self, module: nn.Module, decay: float) -> None:
        self.module, self.decay = module, decay
        self.averages = [parameter.detach().clone() for parameter in module.parameters()]

    @torch.no_grad()
    def update(self, updates: int) -> None:
        """Takes in the weights after `updates` optimiser steps."""
        decay = min(self.decay, (1 + updates) / (10 + updates))
        weights = [parameter.detach() for parameter in self.module.parameters()]
        # torch's own averaging calls it too; there is no public name for it.
        torch._foreach_lerp_(self.averages, weights, 1 - decay)  # pyright: ignore[reportPrivateUsage, reportPrivateImportUsage]

    def state_dict(self) -> dict[str, Tensor]:
        """Averages and buffers under the module's own names."""
        names = (name for name, _ in self.module.named_parameters())
        return {**self.module.state_dict(), **dict(zip(names, self.averages, strict=True))}

    @torch.no_grad()
    def load(self, weights: Mapping[str, Tensor]) -> None:
        """Takes averages up again where `state_dict` left them."""
        for (name, _), average in zip(self.module.named_parameters(), self.averages, strict=True):
            average.copy_(weights[name])
