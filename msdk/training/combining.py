"""Gradients of what stages share, stage by stage: combined, or looked at (`training.gradients`, `.gradient_cosine`).

The images of a step are computed stage by stage, so each still goes through the networks once: that costs no FLOPs, but
a gradient of the shared weights for each stage in memory. These are summed over processes before anything is made of
them, and what is made of them follows from their inner products, which processes with rows of weights add up.
"""

from collections.abc import Iterator, Sequence
from math import isfinite
from random import Random
from typing import NamedTuple

import attrs
import torch
from torch import Tensor, nn

from msdk.batch import Batch
from msdk.combinations.base import Combination
from msdk.distributed import Group
from msdk.objectives.base import Draw
from msdk.training.sharding import local
from msdk.training.summing import stage_of


class Piece(NamedTuple):
    """The images of one stage in a micro-batch; `counted` as in `msdk.training.dealing`, of these images."""

    stage: int
    batch: Batch
    draw: Draw
    counted: Tensor | None


def by_stage(batch: Batch, draw: Draw, counted: Tensor | None) -> tuple[list[Piece], Tensor]:
    """A micro-batch cut by stages in ascending order; and where each of its images lies in them, on their device."""
    order = draw.stages.argsort(stable=True)
    index = order.to(batch.images.device, non_blocking=True)
    stages, sizes = (found.tolist() for found in draw.stages.unique(return_counts=True))

    def picked(tensor: Tensor | None) -> Tensor | None:
        return None if tensor is None else tensor.index_select(0, index)

    sorted_draw = attrs.evolve(
        draw,
        **{name: getattr(draw, name)[order] for name in ("stages", "times", "weights")},
        **{name: picked(getattr(draw, name)) for name in ("noise", "extra", "posterior")},
    )
    sorted_batch = batch._replace(images=batch.images.index_select(0, index), condition=batch.condition.select(index))
    flags: Sequence[Tensor | None] = [None] * len(sizes)
    if counted is not None:
        flags = counted.index_select(0, index).split(sizes)
    parts = zip(stages, sorted_batch.split(sizes), sorted_draw.split(sizes), flags, strict=True)
    return [Piece(*part) for part in parts], index.argsort()


class SharedGradients:
    """The gradients of one step after another of the weights that all stages share, each stage's for itself.

    Args:
        trained: Has `network`, and names its weights.
        own: What the optimiser moves of each weight: all of it, or this process's rows.
        stages: How many there are.
        rule: Makes one gradient of them; None adds them up.
        group: The processes.

    Attributes:
        kept: What the rule gave each stage last, on the device.
    """

    def __init__(
        self, trained: nn.Module, own: Sequence[nn.Parameter], stages: int, rule: Combination | None, group: Group
    ) -> None:
        named = zip(trained.named_parameters(), own, strict=True)
        self.weights = [
            (weight, mine)
            for (name, weight), mine in named
            if weight.requires_grad and name.startswith("network.") and stage_of(name, trained) is None
        ]
        self.rule, self.group = rule, group
        self.sizes = [_flat(mine).numel() for _, mine in self.weights]
        # Inner products of what is coarser than float32 would be; Apple's devices have no float64.
        self.dtype = torch.float32
        for _, mine in self.weights:
            self.dtype = torch.promote_types(self.dtype, mine.dtype.to_real())
        device = own[0].device
        self.precise = torch.float32 if device.type == "mps" else torch.float64
        self.kept = list(torch.ones(stages, dtype=self.precise, device=device).unbind())
        self.rows: dict[int, Tensor] = {}
        self.found: tuple[Sequence[int], Tensor] | None = None

    def forget(self) -> None:
        """Before a step."""
        self.rows, self.found = {}, None

    def take(self, stage: int) -> None:
        """Takes what a backward pass of a stage's images has left in the shared weights; nothing is left there."""
        if stage not in self.rows:
            self.rows[stage] = self.kept[0].new_zeros(sum(self.sizes), dtype=self.dtype)
        for place, (weight, _) in zip(self.rows[stage].split(self.sizes), self.weights, strict=True):
            if weight.grad is not None:
                place += _flat(local(weight.grad))
                weight.grad = None

    @torch.no_grad()
    def put(self, iteration: int, seed: int, *, sharded: bool, unit: Tensor | None, bound: float | None) -> None:
        """Gives the optimiser one gradient of each shared weight.

        Args:
            iteration: Steps done before this one.
            seed: Of the step, for rules that draw.
            sharded: Whether this process has rows alone, which are summed over processes already.
            unit: What the gradients are multiplied with, where that is not 1.
            bound: Replaces infinities by it, and NaN by 0, in each stage's gradient.
        """
        if not self.rows:
            return
        stages = sorted(self.rows)
        gradients = torch.stack([self.rows.pop(stage) for stage in stages])
        if not sharded:
            self.group.add_up([gradients])()
        if bound is not None:
            gradients.nan_to_num_(nan=0.0, posinf=bound, neginf=-bound)
        gram = (gradients @ gradients.T).to(self.precise)
        if sharded:
            self.group.add_up([gram])()
        gram = gram if unit is None else gram / unit.to(self.precise).square()
        self.found = stages, gram
        factors = gram.new_ones(len(stages))
        if self.rule is not None:
            before = torch.stack([self.kept[stage] for stage in stages])
            factors = self.rule.weights(gram, before, iteration, Random(seed)).to(gram)
            for stage, factor in zip(stages, factors.unbind(), strict=True):
                self.kept[stage] = factor
            if self.rule.largest:
                norm = (factors @ gram @ factors).clamp(min=0.0).sqrt()
                factors = factors * (self.rule.largest / (norm + 1e-6)).clamp(max=1.0)
        together = factors.to(gradients.dtype) @ gradients
        for (_, mine), piece in zip(self.weights, together.split(self.sizes), strict=True):
            # Fused optimisers walk weights and gradients by memory, so they have one layout.
            mine.grad = torch.empty_like(mine)
            _as_real(mine.grad).copy_(piece.view(_as_real(mine).shape))

    def numbers(self) -> tuple[float, ...]:
        """What the rule gave each stage last, for checkpoints; none where nothing is kept. Waits for the device."""
        nothing = self.rule is None or self.kept[0].is_meta  # a device without numbers
        return () if nothing else tuple(torch.stack(self.kept).tolist())

    def restore(self, numbers: Sequence[float]) -> None:
        """Goes on where `numbers` were told; a run that has none begins with 1."""
        if self.rule is not None and numbers:
            self.kept = list(torch.tensor(numbers, dtype=self.precise, device=self.kept[0].device).unbind())

    def told(self) -> dict[str, list[float | None]]:
        """Of the last step that was computed stage by stage, for metrics; waits for the device."""
        if self.found is None:
            return {}
        stages, gram = self.found
        lengths = gram.diagonal().clamp(min=0.0).sqrt()
        cosines = dict(zip(stages, (gram / (lengths[:, None] * lengths[None, :])).tolist(), strict=True))
        place = {stage: index for index, stage in enumerate(stages)}
        norms = dict(zip(stages, lengths.tolist(), strict=True))
        return {
            "gradient_cosine": [
                _finite(cosines[one][place[other]]) if one in place and other in place else None
                for one, other in pairs(len(self.kept))
            ],
            "gradient_norm_by_stage": [_finite(norms.get(stage, torch.nan)) for stage in range(len(self.kept))],
        }


def pairs(stages: int) -> Iterator[tuple[int, int]]:
    """In the order in which metrics tell them: 0 and 1, 0 and 2, ..., 1 and 2, ..."""
    return ((one, other) for one in range(stages) for other in range(one + 1, stages))


def _as_real(tensor: Tensor) -> Tensor:
    return torch.view_as_real(tensor) if tensor.is_complex() else tensor


def _flat(tensor: Tensor) -> Tensor:
    return _as_real(tensor).reshape(-1)


def _finite(value: float) -> float | None:
    return value if isfinite(value) else None
