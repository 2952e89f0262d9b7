"""FLOPs of the backward pass and of recomputed activations, counted while a training step is simulated."""

import math
from collections.abc import Sequence
from typing import Any

import attrs
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from msdk.budgeting.declared import declared, of_the_second_counter
from msdk.budgeting.rules import SECOND, raw
from msdk.budgeting.simulating import simulated
from msdk.budgeting.trials import trial
from msdk.denoiser import Denoiser
from msdk.recipe import Recipe
from msdk.training.step import TrainingStep, image_losses


@attrs.frozen
class StageFlops:
    """FLOPs of one image in one stage.

    Attributes:
        forward: Of the forward pass: twice its MACs.
        backward: Of the gradients of weights and features.
        recompute: Of what the backward pass computes a second time; 0 without `training.recompute`.
    """

    forward: int
    backward: int
    recompute: int


def stage_flops(recipe: Recipe, denoiser: Denoiser) -> list[StageFlops]:
    """FLOPs of every stage, by torch's FlopCounterMode on fake tensors.

    Args:
        recipe: Says whether activations are recomputed, and which labels training feeds.
        denoiser: On any device; it is copied.
    """
    with simulated(denoiser) as (copied, _):
        step = TrainingStep(recipe, copied)
        rules = {**RULES, **of_the_second_counter(declared(copied))}

        def counted(stage: int, *, recompute: bool) -> tuple[int, int]:
            copied.network.set_recompute(recompute)
            batch, draw = trial(recipe, copied, [{stage: 1}])
            clean = batch._replace(images=torch.zeros_like(draw.noise))
            with FlopCounterMode(display=False, custom_mapping=rules) as forward:
                values = image_losses(step.objective.loss, recipe, copied, clean, draw)
            with FlopCounterMode(display=False, custom_mapping=rules) as backward:
                if values.requires_grad:  # a stage that is wholly frozen has nothing to go back to
                    values.sum().backward()
            step.trained.zero_grad(set_to_none=True)
            return forward.get_total_flops(), backward.get_total_flops()

        found: list[StageFlops] = []
        for stage in range(len(copied.partition)):
            forward, backward = counted(stage, recompute=False)
            both = counted(stage, recompute=True)[1] if recipe.training.recompute else backward
            found.append(StageFlops(forward, backward, both - backward))
        return found


# --- rules: the counter's own miss attention on CPUs, and count gradients of grouped weights `groups` times -----------

Shape = Sequence[int]


def _attention(query: Tensor, key: Tensor, value: Tensor, *_: object, **__: object) -> int:
    return 2 * math.prod(query.shape[:-1]) * key.shape[-2] * (query.shape[-1] + value.shape[-1])


def _attention_backward(_: Tensor, query: Tensor, key: Tensor, value: Tensor, *__: object, **___: object) -> int:
    return 2 * _attention(query, key, value)


def _convolution_backward(
    grad: Tensor,
    x: Tensor,
    weight: Tensor,
    bias_sizes: object,
    stride: object,
    padding: object,
    dilation: object,
    transposed: bool,
    output_padding: object,
    groups: int,
    output_mask: Sequence[bool],
    **_: object,
) -> int:
    side = x if transposed else grad
    one = 2 * side.shape[0] * math.prod(side.shape[2:]) * weight.numel()
    return one * sum(output_mask[:2])


RULES: dict[Any, Any] = {
    **SECOND,
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: raw(_attention),
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward: raw(_attention_backward),
    torch.ops.aten.convolution_backward: raw(_convolution_backward),
}
