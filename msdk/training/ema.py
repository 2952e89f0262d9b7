"""Averaged weights."""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from msdk.training.sharding import local, put

Decay = Callable[[int], float]
"""The decay d of the n-th update, n = 1, 2, ..."""


def ramped(decay: float) -> Decay:
    """Decay min(decay, (1 + n) / (10 + n)); 0 keeps the last weights.

    Source: score_sde (Song et al. 2021, arXiv 2011.13456).
    """
    return lambda update: min(decay, (1 + update) / (10 + update))


def halving(half_life: float, ramp: float, batch: int) -> Decay:
    """Decay 0.5^(batch / h), with the half-life h = min(half_life, ramp x images seen before this batch).

    Source: EDM (Karras et al. 2022, arXiv 2206.00364, appendix F.2).

    Args:
        half_life: In images.
        ramp: Share of the images seen; 0 does not ramp up.
        batch: Images per update.
    """

    def decay(update: int) -> float:
        images = min(half_life, ramp * (update - 1) * batch) if ramp else half_life
        return 0.5 ** (batch / images) if images else 0.0

    return decay


class EMA:
    """Exponential moving average of a module's parameters: e <- d e + (1 - d) w.

    torch's own AveragedModel reads its step counter from the device at every update, which waits for the device.

    Args:
        module: Its parameters are averaged, each once, whatever names it has; its buffers and whole numbers are taken
            as they are.
        decay: Gives d for each update.
    """

    def __init__(self, module: nn.Module, decay: Decay) -> None:
        self.module, self.decay = module, decay
        self.averages = [parameter.detach().clone() for parameter in self._averaged()]

    def _averaged(self) -> list[nn.Parameter]:
        return [each for each in self.module.parameters() if each.is_floating_point() or each.is_complex()]

    @torch.no_grad()
    def update(self, updates: int) -> None:
        """Takes in the weights after `updates` optimiser steps."""
        weights = [local(parameter) for parameter in self._averaged()]
        averages = [local(average) for average in self.averages]
        # torch's own averaging calls it too; there is no public name for it.
        torch._foreach_lerp_(averages, weights, 1 - self.decay(updates))  # pyright: ignore[reportPrivateUsage, reportPrivateImportUsage]

    def state_dict(self) -> dict[str, Tensor]:
        """Averages and buffers under the module's own names, all of them."""
        averages = {id(weight): average for weight, average in zip(self._averaged(), self.averages, strict=True)}
        named = self.module.named_parameters(remove_duplicate=False)
        found = {name: averages[id(parameter)] for name, parameter in named if id(parameter) in averages}
        return {**self.module.state_dict(), **found}

    @torch.no_grad()
    def load(self, weights: Mapping[str, Tensor]) -> None:
        """Takes averages up again where `state_dict` left them."""
        names = {id(parameter): name for name, parameter in self.module.named_parameters()}
        for weight, average in zip(self._averaged(), self.averages, strict=True):
            put(average, weights[names[id(weight)]])
