"""Checkpoints of a run: written whole, read onto the CPU, and the trained denoiser in the newest of them."""

import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal, TypeVar, cast

import attrs
import torch
from attrs.validators import deep_iterable, ge
from safetensors import SafetensorError
from safetensors.torch import save
from torch import Tensor

from msdk.arguments import as_annotated
from msdk.denoiser import Denoiser
from msdk.denoiser.building import build, known_device
from msdk.denoiser.offloading import Shelves
from msdk.denoiser.weights import fill, put_weights, read_weights
from msdk.errors import RunError
from msdk.recipe import Recipe
from msdk.recipe.keeping import Kept, spare
from msdk.recipe.results import key, parsed, to_json
from msdk.recipe.structuring import FieldError
from msdk.runs.files import remove_whole, save_tensors, written_whole
from msdk.runs.folder import checkpoint_at, checkpoints, latest, run_recipe
from msdk.runs.lock import class_names
from msdk.runs.watched import Watched
from msdk.runs.writer import one_writer

Weights = Literal["ema", "raw"]


@attrs.frozen
class Checkpoint:
    """All that training needs to go on exactly as if it had not stopped.

    Attributes:
        iteration: Optimiser steps done; with the recipe's seed it fixes every random number and the place in the data.
        images_by_stage: Images that each stage has seen, for the ledger.
        model: Weights and buffers of the staged network.
        ema: Averaged weights under the same names; empty where the recipe keeps none.
        averages: Those behind the first one, `"<number>/<weight>"`, from 1.
        optimizer: Tensors that the optimiser keeps, `"<moment>/<weight>"`.
        optimizer_numbers: Its numbers: "state" under the same names, and "groups", one table each; in float16 "scaler".
        seconds: Time spent training.
        objective: What the objective owns: weights and buffers as "raw/<name>", averaged weights as "ema/<name>"; empty
            where that is nothing.
        untold: Sums of the losses by stage, and images by stage, since the last line of metrics that is due; empty
            right after one.
        watched: What those keep who watch the training; None where nobody does.
        before: Steps done when the batch or the stages were changed last, and the images of each stage that were
            expected until then, which together are all that were read; (0, ()) where that never was.
        turns: Steps in which each stage had images, where averages go by them; empty elsewhere.
        combined: What each stage's gradient was multiplied with last, where these are combined; empty elsewhere.
        best: Weights of what goes by a held-out loss of its own, at its best look: `"<number>/raw/<weight>"`, and each
            average as `"<number>/<average>/<weight>"`.
    """

    iteration: int
    images_by_stage: tuple[int, ...]
    model: Mapping[str, Tensor]
    ema: Mapping[str, Tensor]
    optimizer: Mapping[str, Tensor]
    seconds: float
    optimizer_numbers: Mapping[str, Any] = attrs.field(factory=dict[str, Any])
    averages: Mapping[str, Tensor] = attrs.field(factory=dict[str, Tensor])
    objective: Mapping[str, Tensor] = attrs.field(factory=dict[str, Tensor])
    untold: tuple[tuple[float, ...], tuple[int, ...]] = ((), ())
    watched: Watched | None = None
    before: tuple[int, tuple[float, ...]] = (0, ())
    turns: tuple[int, ...] = ()
    combined: tuple[float, ...] = ()
    best: Mapping[str, Tensor] = attrs.field(factory=dict[str, Tensor])


ALWAYS, OPTIONAL = ("model", "optimizer"), ("ema", "averages", "objective", "best")
"""Files of tensors that every checkpoint has, and those that are there if they hold any."""


def save_checkpoint(run: Path, checkpoint: Checkpoint, keep: Kept) -> Path:
    """Writes `checkpoints/ITERATION`, then removes all but those that `keep` means: the newest so many, for a number.

    Raises:
        RunError: It cannot be written, or another process writes the run.
    """
    with one_writer(run):
        path = write_checkpoint(run, checkpoint)
        keep_newest(run, keep)
    return path


def keep_newest(run: Path, keep: Kept) -> None:
    """Removes all checkpoints but those that are to be kept."""
    found = {int(path.name): path for path in checkpoints(run)}
    for old in spare(list(found), keep):
        remove_whole(found[old])


def write_checkpoint(run: Path, checkpoint: Checkpoint) -> Path:
    """Writes `checkpoints/ITERATION` in a folder that nobody else writes, as `start_run` makes it."""
    folder = run / "checkpoints"
    folder.mkdir(exist_ok=True)
    path = folder / f"{checkpoint.iteration:08d}"
    with written_whole(path) as temporary:
        temporary.mkdir()
        for name in (*ALWAYS, *OPTIONAL):
            tensors: Mapping[str, Tensor] = getattr(checkpoint, name)
            if tensors or name in ALWAYS:
                save_tensors(tensors, temporary / f"{name}.safetensors")
        write_state(checkpoint, temporary)
    return path


def rewrite_state(checkpoint: Checkpoint, folder: Path) -> None:
    """Writes what is no tensor in a checkpoint that is there, in a folder that nobody else writes."""
    with written_whole(folder / "state.json") as temporary:
        temporary.write_text(_state_of(checkpoint), encoding="utf-8")


def write_state(checkpoint: Checkpoint, folder: Path) -> None:
    """Writes what is no tensor."""
    (folder / "state.json").write_text(_state_of(checkpoint), encoding="utf-8")


def _state_of(checkpoint: Checkpoint) -> str:
    state = {
        "iteration": checkpoint.iteration,
        "images_by_stage": list(checkpoint.images_by_stage),
        "seconds": checkpoint.seconds,
        "optimizer": dict(checkpoint.optimizer_numbers),
    }
    if any(checkpoint.untold):
        state |= {"untold_losses": checkpoint.untold[0], "untold_images": checkpoint.untold[1]}
    if checkpoint.watched is not None:
        state["watched"] = to_json(checkpoint.watched)
    if checkpoint.before[0]:
        state |= {"changed_at": checkpoint.before[0], "expected_until_then": checkpoint.before[1]}
    if checkpoint.turns:
        state |= {"steps_by_stage": checkpoint.turns}
    if checkpoint.combined:
        state |= {"gradient_weights_by_stage": checkpoint.combined}
    return json.dumps(state)


def stored(checkpoint: Path, part: str) -> Path:
    """Where a checkpoint has tensors: in a file, or in a folder of shards (`msdk.runs.shards`)."""
    file = checkpoint / f"{part}.safetensors"
    return checkpoint / part if not file.is_file() and (checkpoint / part).is_dir() else file


def unsavable(value: object) -> str:
    """Why a checkpoint cannot hold something of a state_dict, in words; nothing where it can."""
    if not isinstance(value, Tensor):
        return f"is a {type(value).__name__} and no tensor"
    if value.layout != torch.strided:
        return f"is laid out as {value.layout}, and only dense tensors can be kept"
    try:
        save({"": torch.empty(0, dtype=value.dtype)})
    except (SafetensorError, KeyError, ValueError):
        return f"holds {str(value.dtype).removeprefix('torch.')}, which safetensors does not know"
    return ""


Number = int | float | bool
"""What state.json keeps of an optimiser, beside tensors; a list of one stands for a tensor of one number."""


def _numbers(table: object) -> dict[str, Number | list[Number]]:
    if not isinstance(table, dict):
        raise FieldError("expected an object of numbers")
    for name, value in cast("dict[str, object]", table).items():
        listed = cast("list[object]", value) if isinstance(value, list) else [value]
        if len(listed) != 1 or not isinstance(listed[0], (int, float)) or not math.isfinite(listed[0]):
            raise FieldError(f"'{name}' is no finite number")
    return cast("dict[str, Number | list[Number]]", table)


def _optimizer(found: object) -> dict[str, Any]:
    if not isinstance(found, dict):
        raise FieldError("expected an object")
    table = cast("dict[str, object]", found)
    groups = table.get("groups", [])
    if not isinstance(groups, list) or not {"state", "groups", "scaler"}.issuperset(table):
        raise FieldError("expected an object of state, a list of groups and a scaler")
    return {
        "state": _numbers(table.get("state", {})),
        "groups": [_numbers(group) for group in cast("list[object]", groups)],
        **({"scaler": _numbers(table["scaler"])} if "scaler" in table else {}),
    }


def _finite(_: object, field: Any, value: float) -> None:
    if not math.isfinite(value):
        raise FieldError(f"{field.name} must be finite, got {value}")


@attrs.frozen
class _State:
    """The content of state.json."""

    iteration: int = attrs.field(validator=ge(0))
    images_by_stage: tuple[int, ...] = attrs.field(validator=deep_iterable(ge(0)))
    seconds: float = attrs.field(validator=[_finite, ge(0)])
    optimizer: dict[str, Any] = attrs.field(factory=dict[str, Any], metadata=key("optimizer", read=_optimizer))
    untold_losses: tuple[float, ...] = attrs.field(default=(), validator=deep_iterable(_finite))
    untold_images: tuple[int, ...] = attrs.field(default=(), validator=deep_iterable(ge(0)))
    watched: Watched | None = None
    steps_by_stage: tuple[int, ...] = attrs.field(default=(), validator=deep_iterable(ge(0)))
    gradient_weights_by_stage: tuple[float, ...] = attrs.field(default=(), validator=deep_iterable(_finite))
    changed_at: int = attrs.field(default=0, validator=ge(0))
    expected_until_then: tuple[float, ...] = attrs.field(default=(), validator=deep_iterable([_finite, ge(0)]))

    def __attrs_post_init__(self) -> None:
        if len(self.expected_until_then) != (len(self.images_by_stage) if self.changed_at else 0):
            raise FieldError("expected_until_then has one number for each stage, or none")
        if len(self.steps_by_stage) not in (0, len(self.images_by_stage)):
            raise FieldError("steps_by_stage has one number for each stage, or none")
        if len(self.gradient_weights_by_stage) not in (0, len(self.images_by_stage)):
            raise FieldError("gradient_weights_by_stage has one number for each stage, or none")
        if self.changed_at > self.iteration:
            raise FieldError("changed_at is beyond the iteration")
        if not len(self.untold_losses) == len(self.untold_images) in (0, len(self.images_by_stage)):
            raise FieldError("untold_losses and untold_images have one number for each stage, or none")
        if self.watched is not None:
            self.watched.check(len(self.images_by_stage))


T = TypeVar("T")


def use(path: Path, how: Callable[[Path], T]) -> T:
    """What `how` makes of a checkpoint; it raises `RunError` where that one cannot be used.

    Raises:
        RunError: The same, with the name of the newest older checkpoint that can be used, if there is one.
    """
    try:
        return how(path)
    except RunError as error:
        for older in reversed(checkpoints(path.parent.parent)):
            if older.name < path.name and _usable(older, how):
                raise RunError(f"{error}. {older} is good: remove {path} to go on from there") from error
        raise


def _usable(path: Path, how: Callable[[Path], object]) -> bool:
    try:
        how(path)
    except RunError:
        return False
    return True


def load_checkpoint(path: Path) -> Checkpoint:
    """Reads a checkpoint onto the CPU.

    Raises:
        RunError: A file is missing or damaged.
    """
    file = path / "state.json"
    try:
        content = file.read_bytes()
    except OSError as error:
        raise RunError(f"{file} cannot be read: {error.strerror}") from error
    state = parsed(content, file, _State, "the state of a checkpoint, as training writes it")
    return Checkpoint(
        iteration=state.iteration,
        images_by_stage=state.images_by_stage,
        seconds=state.seconds,
        optimizer_numbers=state.optimizer,
        untold=(state.untold_losses, state.untold_images),
        watched=state.watched,
        before=(state.changed_at, state.expected_until_then),
        turns=state.steps_by_stage,
        combined=state.gradient_weights_by_stage,
        **{name: read_weights(stored(path, name)) for name in ALWAYS},
        **{name: _read_if_there(stored(path, name)) for name in OPTIONAL},
    )


def _read_if_there(path: Path) -> dict[str, Tensor]:
    return read_weights(path) if path.exists() else {}


def weights_of(checkpoint: Path, recipe: Recipe, weights: Weights) -> Path:
    """The file of the network's weights in a checkpoint, or the folder of its shards.

    Args:
        checkpoint: Its folder.
        recipe: Of the run.
        weights: "ema" for the averaged weights, or the last ones where there is no average and the recipe keeps none
            (`ema_decay = 0`); "raw" for the last ones.
    """
    averaged = stored(checkpoint, "ema")
    if weights == "ema" and (recipe.training.averaged or averaged.exists()):
        return averaged
    return stored(checkpoint, "model")


def load_weights(denoiser: Denoiser, weights: Mapping[str, Tensor], source: Path) -> None:
    """Copies weights into a denoiser's network.

    Raises:
        RunError: They belong to another network; the message lists the first keys that do not fit.
    """
    put_weights(denoiser.network, weights, source, "recipe")


@as_annotated
def load_run(
    run_dir: str | Path,
    *,
    weights: Weights = "ema",
    device: str | torch.device = "cpu",
    offload: bool = False,
    checkpoint: int | None = None,
) -> Denoiser:
    """The trained denoiser of a run folder, in eval mode, from its newest checkpoint, or one that is named.

    Args:
        run_dir: A folder that `msdk train` or `msdk run` made.
        weights: "ema" for the averaged weights, or the last ones where the run keeps no average (`ema_decay = 0`);
            "raw" for the last ones.
        device: Where to put it.
        offload: Whether what one stage alone uses is loaded when that stage runs, in the place of the last one: less
            memory, more time.
        checkpoint: The iteration of the checkpoint; the newest one when not given.

    Raises:
        RunError: No run folder, no such checkpoint, or one that is damaged or belongs to another recipe.
    """
    run, device = Path(run_dir), known_device(device)
    recipe = run_recipe(run)
    found = latest(run) if checkpoint is None else checkpoint_at(run, checkpoint)
    denoiser = use(found, lambda path: _loaded(weights_of(path, recipe, weights), recipe, offload=offload))
    denoiser.class_names = class_names(run)
    return denoiser.to(device)


def _loaded(path: Path, recipe: Recipe, *, offload: bool) -> Denoiser:
    if offload:
        denoiser = build(recipe, make=Shelves(path, separate=recipe.sharing == "separate").make)
        for name, part in denoiser.network.named_children():
            for index, kept in part.named_children():
                if any(True for _ in kept.parameters()):
                    fill(kept, path, f"{name}.{index}.")
    else:
        denoiser = build(recipe)
        fill(denoiser.network, path)
    return denoiser.eval()
