"""A training step's tensors and numbers, into a checkpoint and back."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from msdk.denoiser.weights import aliases, not_finite, put_weights, refuse_misfits, refuse_unequal
from msdk.errors import RunError
from msdk.runs import Checkpoint
from msdk.runs.checkpoint import unsavable
from msdk.runs.watched import Watched
from msdk.training.sharding import as_rows_of, local, put, whole
from msdk.training.step import TrainingStep

NETWORK, OBJECTIVE = "network.", "objective."
"""How names in `TrainingStep.trained` begin. In checkpoints those of the network do without."""

PARTS = ("model", "ema", "averages", "objective", "optimizer")
"""Tensors of a checkpoint."""


def checkpoint_of(
    step: TrainingStep,
    *,
    iteration: int,
    images_by_stage: Sequence[int],
    seconds: float,
    untold: tuple[tuple[float, ...], tuple[int, ...]] = ((), ()),
    watched: Watched | None = None,
    before: tuple[int, tuple[float, ...]] = (0, ()),
    best: Mapping[str, Tensor] | None = None,
) -> Checkpoint:
    """What a checkpoint keeps.

    Raises:
        RunError: The optimiser keeps what checkpoints do not hold.
    """
    moments: dict[str, Tensor] = {}
    numbers: dict[str, float] = {}
    for (name, parameter), own in zip(step.trained.named_parameters(), step.own, strict=True):
        weight = name.removeprefix(NETWORK)
        for moment, value in step.optimizer.state.get(own, {}).items():
            if isinstance(value, Tensor):
                moments[f"{moment}/{weight}"] = as_rows_of(value, parameter)
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
        averages=_further(step),
        optimizer=moments,
        optimizer_numbers={
            "state": numbers,
            "groups": [_numbers(group) for group in step.optimizer.param_groups],
            **({} if step.scaler is None else {"scaler": _scale(step.scaler)}),
        },
        objective=_of_objective(step, raw, averaged),
        seconds=seconds,
        untold=untold,
        watched=watched,
        before=before,
        turns=tuple(step.turns) if step.recipe.training.average_by == "stage" else (),
        combined=() if step.shared is None else step.shared.numbers(),
        best=best or {},
    )


def refuse_unsavable(step: TrainingStep) -> None:
    """Raises `RunError` where a checkpoint could not hold what is trained: told before the first step."""
    wrong: list[str] = []
    kept = step.trained.state_dict()
    for name, value in kept.items():
        reason = unsavable(value)
        if reason:
            wrong.append(f"{name.removeprefix(NETWORK)} {reason}")
    named = step.trained.named_parameters(remove_duplicate=False)
    wrong += [
        f"{name.removeprefix(NETWORK)} is not in its module's state_dict" for name, _ in named if name not in kept
    ]
    if wrong:
        raise RunError(f"checkpoints cannot hold what is trained: {'; '.join(wrong[:3])}{', ...' * (len(wrong) > 3)}")
    kinds = {(parameter.shape, parameter.dtype): parameter for parameter in step.own}
    tried = {parameter.dtype: parameter for parameter in kinds.values() if parameter.requires_grad}
    for parameter in tried.values():
        _kept_of(step, parameter)


def sick(step: TrainingStep) -> list[str]:
    """What is not finite of all that a checkpoint keeps: "model NAME", "ema NAME", ... Waits for the device."""
    kept = checkpoint_of(step, iteration=0, images_by_stage=(), seconds=0.0)
    buffers, found = _buffers(step), list[str]()
    for part in PARTS:
        own = {name: local(value) for name, value in getattr(kept, part).items()}
        found += [f"{part} {name}" for name in not_finite(own, buffers)]
    return step.group.union(found) if step.sharded else found


def check(step: TrainingStep, checkpoint: Checkpoint, source: Path) -> None:
    """Raises `RunError` where a checkpoint does not fit, or is not finite; touches nothing.

    What goes into the kernels of an optimiser is walked by memory, so nothing of a file is taken on trust.
    """
    own = checkpoint_of(step, iteration=0, images_by_stage=(), seconds=0.0)
    buffers = _buffers(step)
    if own.ema and not checkpoint.ema:
        raise RunError(f"{source} has no ema.safetensors, but the recipe keeps averaged weights: it is damaged")
    for part in ("model", "ema", "averages", "objective"):
        wanted, found = getattr(own, part), getattr(checkpoint, part)
        if wanted or part in ("averages", "objective"):
            refuse_misfits(wanted, found, source / f"{part}.safetensors", "recipe", buffers)
    also = aliases(step.denoiser.network)
    for part in ("model", "ema"):
        refuse_unequal(getattr(checkpoint, part), also, source / f"{part}.safetensors")
    for place in range(1, len(step.emas)):
        refuse_unequal(_under(f"{place}/", checkpoint.averages), also, source / "averages.safetensors")
    also = aliases(step.trained["objective"])
    for kind in ("raw/", "ema/"):
        refuse_unequal(_under(kind, checkpoint.objective), also, source / "objective.safetensors")
    stages = len(step.recipe.decoders)
    if len(checkpoint.images_by_stage) != stages:
        raise RunError(
            f"{source / 'state.json'} belongs to another recipe: images_by_stage has {len(checkpoint.images_by_stage)} "
            f"entries instead of {stages}"
        )
    check_optimizer(step, checkpoint, source)


def check_optimizer(step: TrainingStep, checkpoint: Checkpoint, source: Path) -> None:
    """Raises `RunError` where what a checkpoint keeps of an optimiser is not what that of a step would."""
    parameters = {name.removeprefix(NETWORK): parameter for name, parameter in step.trained.named_parameters()}
    kinds: dict[tuple[object, ...], Mapping[str, object]] = {}
    numbers: Mapping[str, Any] = checkpoint.optimizer_numbers.get("state", {})
    wrong = [f"{key} is not finite" for key in not_finite(checkpoint.optimizer)]
    kept: dict[str, set[str]] = {}
    for key, value in (*checkpoint.optimizer.items(), *numbers.items()):
        moment, _, name = key.partition("/")
        if name not in parameters:
            wrong.append(f"unknown {key}")
            continue
        parameter = parameters[name]
        kind = (parameter.shape, parameter.dtype)
        if kind not in kinds:
            kinds[kind] = _kept_of(step, parameter)
        kept.setdefault(name, set()).add(moment)
        # What is kept from a later step on has the shape of its weight.
        wanted, found = kinds[kind].get(moment, _kind(parameter)), _kind(value)
        if wanted != found:
            wrong.append(f"{key} is {found} instead of {wanted}")
    for name, moments in kept.items():
        parameter = parameters[name]
        wrong += [f"missing {each}/{name}" for each in kinds[parameter.shape, parameter.dtype] if each not in moments]
    if wrong:
        more = f" and {len(wrong) - 3} more" if len(wrong) > 3 else ""
        raise RunError(f"{source / 'optimizer.safetensors'} cannot be used: {'; '.join(wrong[:3])}{more}")
    scale = checkpoint.optimizer_numbers.get("scaler", {})
    if step.scaler is not None and scale and not (set(scale) == set(SCALE) and scale["scale"] > 0):
        raise RunError(f"{source / 'state.json'} cannot be used: the scale of its gradients is {scale}")
    groups, saved = step.optimizer.param_groups, checkpoint.optimizer_numbers.get("groups", ())
    if saved and len(saved) != len(groups):
        raise RunError(f"{source / 'state.json'} has {len(saved)} groups of an optimiser that has {len(groups)}")
    for group, table in zip(groups, saved, strict=False):
        for key, value in table.items():
            if key in ("lr", "params") or (key in group and isinstance(group[key], bool) != isinstance(value, bool)):
                raise RunError(f"{source / 'state.json'} cannot be used: the optimiser's {key} is {value}")


def _kept_of(step: TrainingStep, parameter: nn.Parameter) -> dict[str, object]:
    """What the optimiser keeps of a weight like this one, by name: tried on zeros."""
    like = local(parameter)
    zeros = nn.Parameter(torch.zeros_like(like if like.shape == parameter.shape else like.new_empty(parameter.shape)))
    zeros.grad = torch.zeros_like(zeros)
    options = step.recipe.training
    tried = options.rule.build([zeros], options.lr)
    tried.step()
    return {moment: _kind(value) for moment, value in tried.state.get(zeros, {}).items() if value is not None}


def _kind(value: object) -> str:
    """In words, which are compared too."""
    if not isinstance(value, Tensor):
        return "a number"
    return f"{tuple(value.shape)} {str(value.dtype).removeprefix('torch.')}"


def _buffers(step: TrainingStep) -> set[str]:
    """Names of the buffers, as checkpoints have them."""
    names = [name for name, _ in step.trained.named_buffers(remove_duplicate=False)]
    ours = {name.removeprefix(NETWORK) for name in names if name.startswith(NETWORK)}
    return ours | {f"raw/{name.removeprefix(OBJECTIVE)}" for name in names if name.startswith(OBJECTIVE)}


def restore(step: TrainingStep, checkpoint: Checkpoint) -> None:
    """Takes weights, averages and the optimiser's state up where a checkpoint that was checked left them."""
    if step.sharded:
        wholes = {f"{NETWORK}{name}": value for name, value in checkpoint.model.items()}
        wholes |= {f"{OBJECTIVE}{name}": value for name, value in _under("raw/", checkpoint.objective).items()}
        for name, kept in step.trained.state_dict().items():
            put(kept, wholes[name])
    else:
        step.denoiser.network.load_state_dict(checkpoint.model)
        step.trained["objective"].load_state_dict(_under("raw/", checkpoint.objective))
    if step.ema is not None:
        averages = {f"{NETWORK}{name}": value for name, value in checkpoint.ema.items()}
        averages |= {f"{OBJECTIVE}{name}": value for name, value in _under("ema/", checkpoint.objective).items()}
        step.ema.load(averages)
    for place, ema in enumerate(step.emas[1:], start=1):
        further = _under(f"{place}/", checkpoint.averages)
        ema.load({name if name.startswith(OBJECTIVE) else f"{NETWORK}{name}": each for name, each in further.items()})
    step.turns = list(checkpoint.turns or step.turns)
    if step.shared is not None:
        step.shared.restore(checkpoint.combined)
    restore_optimizer(step, checkpoint)


def restore_optimizer(step: TrainingStep, checkpoint: Checkpoint) -> None:
    """Takes the optimiser's state alone up, and the scale of gradients."""
    weights = {
        name.removeprefix(NETWORK): (parameter, own)
        for (name, parameter), own in zip(step.trained.named_parameters(), step.own, strict=True)
    }
    for key, value in checkpoint.optimizer.items():
        moment, _, name = key.partition("/")
        parameter, own = weights[name]
        # Fused Adam walks weights and moments by memory, so they must have one layout.
        if value.shape == parameter.shape:
            kept = torch.empty_like(own, dtype=value.dtype)
            put(as_rows_of(kept, parameter), value)
        else:
            kept = value.to(own.device, copy=True)
        step.optimizer.state[own][moment] = kept
    for key, value in checkpoint.optimizer_numbers.get("state", {}).items():
        moment, _, name = key.partition("/")
        step.optimizer.state[weights[name][1]][moment] = value
    saved = checkpoint.optimizer_numbers.get("groups", ())
    for group, numbers in zip(step.optimizer.param_groups, saved, strict=False):
        for key, value in numbers.items():
            group[key] = torch.tensor(value[0], device=step.denoiser.place.device) if isinstance(value, list) else value

    if step.scaler is not None:
        step.scaler.load_state_dict({**step.scaler.state_dict(), **checkpoint.optimizer_numbers.get("scaler", {})})


def _scale(scaler: torch.amp.GradScaler) -> dict[str, Any]:
    """What changes of a gradient scaler, by its own names; read from the device."""
    return {name: value for name, value in scaler.state_dict().items() if name in SCALE}


SCALE = ("scale", "_growth_tracker")
"""What a gradient scaler multiplies losses with, and the steps since it was last changed."""


def put_objective(objective: nn.Module, checkpoint: Checkpoint, source: Path) -> None:
    """Copies what a checkpoint's objective owned into one.

    Raises:
        RunError: It is another objective's.
    """
    put_weights(objective, _under("raw/", checkpoint.objective), source, "objective")


def _of_objective(step: TrainingStep, raw: Mapping[str, Tensor], averaged: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """What the objective owns; its buffers, which no average has of its own, once."""
    kept = {f"raw/{name}": value for name, value in _under(OBJECTIVE, raw).items()}
    owned = (name for name, _ in step.trained["objective"].named_parameters(remove_duplicate=False))
    return kept | {f"ema/{name}": averaged[f"{OBJECTIVE}{name}"] for name in owned if averaged}


def _further(step: TrainingStep) -> dict[str, Tensor]:
    """The averages behind the first one, "<number>/<weight>", those of what the objective owns included."""
    return {
        f"{place}/{name.removeprefix(NETWORK)}": value
        for place, ema in enumerate(step.emas[1:], start=1)
        for name, value in ema.state_dict().items()
    }


def snapshot_of(step: TrainingStep) -> dict[str, Tensor]:
    """All averages of the network, "<number>/<weight>", whole and on the CPU; each process calls it."""
    kept = {
        f"{place}/{name.removeprefix(NETWORK)}": value
        for place, ema in enumerate(step.emas)
        for name, value in ema.state_dict().items()
        if name.startswith(NETWORK)
    }
    return {name: whole(value) for name, value in kept.items()}


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
