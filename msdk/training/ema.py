"""Averaged weights: what `msdk.averages` says, done to the weights of a module."""

import contextlib
from collections.abc import Generator, Iterable, Mapping

import torch
from torch import Tensor, nn

from msdk.averages.base import Average
from msdk.training.sharding import local, put


class EMA:
    """Exponential moving average of a module's parameters: e <- d e + (1 - d) w.

    torch's own AveragedModel reads its step counter from the device at every update, which waits for the device.

    Args:
        module: Its parameters are averaged, each once, whatever names it has; its buffers and whole numbers are taken
            as they are.
        average: Gives d for each update.
        batch: Images of a step.
        stages: Name of a weight -> the stage that alone uses it, whose steps and images its average goes by; none where
            all go by all steps.
    """

    def __init__(
        self, module: nn.Module, average: Average, batch: int, stages: Mapping[str, int | None] | None = None
    ) -> None:
        self.module, self.average, self.batch = module, average, batch
        names = {id(parameter): name for name, parameter in module.named_parameters()}
        self.stages = [(stages or {}).get(names[id(parameter)]) for parameter in self._averaged()]
        self.still: set[int] = set()
        self.averages = [parameter.detach().clone() for parameter in self._averaged()]

    def _averaged(self) -> list[nn.Parameter]:
        return [each for each in self.module.parameters() if each.is_floating_point() or each.is_complex()]

    @torch.no_grad()
    def update(self, updates: int, turns: Mapping[int, tuple[int, int]] | None = None) -> None:
        """Takes in the weights after `updates` optimiser steps.

        Args:
            updates: Steps done.
            turns: Stage that has images in the last step -> steps in which it had some, and how many it has; averages
                of other stages stay.
        """
        moving: dict[int | None, tuple[list[Tensor], list[Tensor]]] = {}
        for weight, average, stage in zip(self._averaged(), self.averages, self.stages, strict=True):
            if id(weight) not in self.still and (stage is None or turns is None or stage in turns):
                weights, averages = moving.setdefault(None if turns is None else stage, ([], []))
                weights.append(local(weight))
                averages.append(local(average))
        for stage, (weights, averages) in moving.items():
            update, images = (updates, self.batch) if stage is None or turns is None else turns[stage]
            # torch's own averaging calls it too; there is no public name for it.
            torch._foreach_lerp_(averages, weights, 1 - self.average.decay(update, images))  # pyright: ignore[reportPrivateUsage, reportPrivateImportUsage]

    def hold(self, weights: Iterable[nn.Parameter]) -> None:
        """Leaves the averages of some weights as they are from now on."""
        self.still |= {id(weight) for weight in weights}

    @contextlib.contextmanager
    def in_place(self) -> Generator[None]:
        """Has the averages where the module's weights are, until the block ends; then both are what they were."""
        self._change_places()
        try:
            yield
        finally:
            self._change_places()

    @torch.no_grad()
    def _change_places(self) -> None:
        for parameter, average in zip(self._averaged(), self.averages, strict=True):
            weight, other = local(parameter), local(average)
            kept = weight.clone()
            weight.copy_(other)
            other.copy_(kept)

    def state_dict(self) -> dict[str, Tensor]:
        """Averages and buffers under the module's own names, all of them."""
        averages = {id(weight): average for weight, average in zip(self._averaged(), self.averages, strict=True)}
        named = self.module.named_parameters(remove_duplicate=False)
        found = {name: averages[id(parameter)] for name, parameter in named if id(parameter) in averages}
        return {**self.module.state_dict(), **found}

    @torch.no_grad()
    def load(self, weights: Mapping[str, Tensor]) -> None:
        """Takes averages up again where `state_dict` left them; those that are not given stay."""
        names = {id(parameter): name for name, parameter in self.module.named_parameters()}
        for weight, average in zip(self._averaged(), self.averages, strict=True):
            if names[id(weight)] in weights:
                put(average, weights[names[id(weight)]])
