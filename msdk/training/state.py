"""A training step's tensors and numbers, into a checkpoint and back."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from msdk.denoiser.weights import put_weights
from msdk.errors import RunError
from msdk.runs import Checkpoint, load_weights
from msdk.training.step import TrainingStep

NETWORK, OBJECTIVE = "network.", "objective."
"""How names in `TrainingStep.trained` begin. In checkpoints those of the network do without."""


def checkpoint_of(step: TrainingStep, *, iteration: int, images_by_stage: Sequence[int], seconds: float) -> Checkpoint:
    """What a checkpoint keeps.

    Raises:
        RunError: The optimiser keeps what checkpoints do not hold.
    """
    moments: dict[str, Tensor] = {}
    numbers: dict[str, float] = {}
    for name, parameter in step.trained.named_parameters():
        weight = name.removeprefix(NETWORK)
        for moment, value in step.optimizer.state.get(parameter, {}).items():
            if isinstance(value, Tensor):
                moments[f"{moment}/{weight}"] = value
            elif isinstance(value, (int, float)):
                numbers[f"{moment}/{weight}"] = value
            elif value is not None:
                raise RunError(
                    f"the optimiser keeps '{moment}' of a weight as {type(value).__name__}, which checkpoints do "
                    "not hold: use another training.optimizer"
                )
    raw, averaged = step.trained.state_dict(), step.ema.state_dict() if step.ema is not None else {}
    return Checkpoint(
        iteration=iteration,
        images_by_stage=tuple(images_by_stage),
        model=_under(NETWORK, raw),
        ema=_under(NETWORK, averaged),
        optimizer=moments,
        optimizer_numbers={"state": numbers, "groups": [_numbers(group) for group in step.optimizer.param_groups]},
        objective=_of_objective(step, raw, averaged),
        seconds=seconds,
    )


def restore(step: TrainingStep, checkpoint: Checkpoint, source: Path) -> None:
    """Takes weights, averages and the optimiser's state up where a checkpoint left them.

    Raises:
        RunError: They are of another recipe.
    """
    load_weights(step.denoiser, checkpoint.model, source)
    put_objective(step.trained["objective"], checkpoint, source)
    if step.ema is not None:
        if not checkpoint.ema:
            raise RunError(f"{source} has no ema.safetensors, but the recipe keeps averaged weights: it is damaged")
        averages = {f"{NETWORK}{name}": value for name, value in checkpoint.ema.items()}
        averages |= {f"{OBJECTIVE}{name}": value for name, value in _under("ema/", checkpoint.objective).items()}
        step.ema.load(averages)
    parameters = {name.removeprefix(NETWORK): parameter for name, parameter in step.trained.named_parameters()}
    for key, value in checkpoint.optimizer.items():
        moment, _, name = key.partition("/")
        parameter = parameters[name]
        # Fused Adam walks weights and moments by memory, so they must have one layout.
        like = parameter if value.shape == parameter.shape else value
        kept = torch.empty_like(like, dtype=value.dtype, device=parameter.device).copy_(value)
        step.optimizer.state[parameter][moment] = kept
    for key, value in checkpoint.optimizer_numbers.get("state", {}).items():
        moment, _, name = key.partition("/")
        step.optimizer.state[parameters[name]][moment] = value
    saved = checkpoint.optimizer_numbers.get("groups", ())
    for group, numbers in zip(step.optimizer.param_groups, saved, strict=False):
        for key, value in numbers.items():
            group[key] = torch.tensor(value[0], device=step.denoiser.place.device) if isinstance(value, list) else value


def put_objective(objective: nn.Module, checkpoint: Checkpoint, source: Path) -> None:
    """Copies what a checkpoint's objective owned into one.

    Raises:
        RunError: It is another objective's.
    """
    put_weights(objective, _under("raw/", checkpoint.objective), source, "objective")


def _of_objective(step: TrainingStep, raw: Mapping[str, Tensor], averaged: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """What the objective owns; its buffers, which no average has of its own, once."""
    kept = {f"raw/{name}": value for name, value in _under(OBJECTIVE, raw).items()}
    owned = (name for name, _ in step.trained["objective"].named_parameters())
    return kept | {f"ema/{name}": averaged[f"{OBJECTIVE}{name}"] for name in owned if averaged}


def _under(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}


def _numbers(group: Mapping[str, Any]) -> dict[str, Any]:
    """What an optimiser counts for a group of weights; a number in a tensor is a list of one."""
    found: dict[str, Any] = {}
    for key, value in group.items():
        if isinstance(value, (int, float)) and key != "lr":
            found[key] = value
        elif isinstance(value, Tensor) and value.ndim == 0:
            found[key] = [value.item()]
    return found
