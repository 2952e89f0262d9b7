"""The loss of consistency models, and what losses with a second network share."""

import copy
import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from msdk.batch import Batch, per_image
from msdk.objectives.base import Draw
from msdk.schedules.base import Schedule

if TYPE_CHECKING:
    from msdk.denoiser import Denoiser
    from msdk.objectives.consistency import Consistency

HUBER = 0.00054
"""C of the pseudo-Huber distance, for each square root of a dimension."""


class WithTeacher(nn.Module):
    """A loss that may have a teacher, which is no part of it: it is neither trained nor saved."""

    def __init__(self) -> None:
        super().__init__()
        self.teachers: list[Denoiser] = []  # a list, so that it is no module of this one

    def teach(self, teacher: "Denoiser") -> None:
        """Gives it the teacher, on the device of the training."""
        self.teachers = [teacher.eval().requires_grad_(False)]

    def teacher(self, denoiser: "Denoiser") -> "Denoiser":
        """Where there is none, as in budgets, the network stands for it, which costs the same."""
        return self.teachers[0] if self.teachers else denoiser


class ConsistencyLoss(WithTeacher):
    """See `msdk.objectives.consistency`. Its buffers are the network f'."""

    def __init__(self, spec: "Consistency", denoiser: "Denoiser") -> None:
        super().__init__()
        self.spec = spec
        self.target = _frozen(denoiser.network)

    def loss(self, batch: Batch, draw: Draw, denoiser: "Denoiser") -> Tensor:
        x_0, schedule, spec = batch.images, denoiser.schedule, self.spec
        high = schedule.ratio(draw.times)
        low = lower(high, spec.nodes(draw.iteration) - 1, schedule, spec.floor, spec.rho)
        y = x_0 + per_image(high, x_0) * draw.noise
        found = estimate(denoiser, y, high, batch)
        with torch.no_grad():
            if spec.teacher is None:
                below = x_0 + per_image(low, x_0) * draw.noise
            else:
                below = heun(self.teacher(denoiser), y, high, low, batch)
            wanted = estimate(_beside(denoiser, self.target), below, low, batch)
        return draw.weights.to(found.device, found.dtype, non_blocking=True) * self._distance(found, wanted)

    def _distance(self, found: Tensor, wanted: Tensor) -> Tensor:
        off = found - wanted
        if self.spec.metric == "l2-32":  # which is linear, so that the difference may be brought there
            off = nn.functional.interpolate(off, size=(32, 32), mode="bilinear")
        if self.spec.metric == "pseudo-huber":
            # Over the whole image in the paper; over its dimensions, as all losses here are.
            size = HUBER * math.sqrt(off[0].numel())
            return ((off.flatten(1).square().sum(1) + size**2).sqrt() - size) / off[0].numel()
        return (off.abs() if self.spec.metric == "l1" else off.square()).flatten(1).mean(1)

    @torch.no_grad()
    def follow(self, denoiser: "Denoiser", iteration: int) -> None:
        """Moves f' after so many steps."""
        rate = self.spec.rate(iteration)
        own, theirs = dict(self.target.named_buffers()), dict(_tensors(denoiser.network))
        for name, tensor in own.items():
            if tensor.is_floating_point():
                tensor.lerp_(theirs[name].detach().to(tensor.dtype), 1 - rate)
            else:
                tensor.copy_(theirs[name])


def lower(ratios: Tensor, steps: int, schedule: Schedule, floor: float, rho: float) -> Tensor:
    """Ratios one of so many steps lower, even in ratio^(1 / rho) from the schedule's last time to the floor."""
    span = schedule.ratio(schedule.t_max) ** (1 / rho) - floor ** (1 / rho)
    return (ratios ** (1 / rho) - span / steps).clamp(min=floor ** (1 / rho)) ** rho


def estimate(denoiser: "Denoiser", y: Tensor, ratios: Tensor, batch: Batch) -> Tensor:
    """X_0 of y = x_t / alpha at ratios [batch]."""
    t = denoiser.schedule.t_of_ratio(ratios)
    return denoiser(per_image(denoiser.schedule.alpha(t), y) * y, t, batch.condition)


def euler(denoiser: "Denoiser", y: Tensor, high: Tensor, low: Tensor, batch: Batch) -> Tensor:
    """One step of Euler's method down the path: y + (low - high) (y - x_0) / high."""
    x_0 = estimate(denoiser, y, high, batch)
    return y + per_image((low - high) / high, y) * (y - x_0)


def heun(denoiser: "Denoiser", y: Tensor, high: Tensor, low: Tensor, batch: Batch) -> Tensor:
    """One step of Heun's method down the path."""
    first = (y - estimate(denoiser, y, high, batch)) / per_image(high, y)
    reached = y + per_image(low - high, y) * first
    second = (reached - estimate(denoiser, reached, low, batch)) / per_image(low, y)
    return y + per_image((low - high) / 2, y) * (first + second)


def _tensors(module: nn.Module) -> Iterator[tuple[str, Tensor]]:
    yield from module.named_parameters()
    yield from module.named_buffers()


def _frozen(network: nn.Module) -> nn.Module:
    """A copy whose weights are buffers: they are saved, and neither trained nor averaged."""
    # Tensors are cloned beforehand: those of simulated steps, which have no storage, cannot be copied deeply.
    memo: dict[int, Any] = {id(tensor): tensor.detach().clone() for _, tensor in _tensors(network)}
    copied = copy.deepcopy(network, memo).eval()
    for module in copied.modules():
        for name, weight in list(module.named_parameters(recurse=False)):
            delattr(module, name)
            module.register_buffer(name, weight)
    return copied


def _beside(denoiser: "Denoiser", network: nn.Module) -> "Denoiser":
    """The denoiser with another network in its place."""
    other = copy.copy(denoiser)
    other.__dict__["_modules"] = {**denoiser.__dict__["_modules"], "network": network}
    return other
