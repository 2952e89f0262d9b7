"""What a new network takes from a trained one: parts with the same weights, or ones that can be widened to its own."""

import copy
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import attrs
import torch
from torch import Tensor, nn

from msdk.denoiser import StagedNetwork
from msdk.denoiser.building import build, weights_file
from msdk.denoiser.weights import read_weights, refuse_misfits
from msdk.errors import PartError, RunError
from msdk.partition import Partition
from msdk.recipe import Recipe
from msdk.runs.checkpoint import load_checkpoint, weights_of
from msdk.runs.folder import checkpoints, latest, run_recipe
from msdk.runs.forking import digest_of

ANEW = "anew"
"""What is said of a part that nothing was taken for."""


@attrs.frozen
class Start:
    """What was taken of a run.

    Attributes:
        origin: For lock.json: "run", "checkpoint", "sha256" of the file of weights, "weights" ("ema" or "raw"),
            "optimizer", and "parts": part -> the part of the run that it came from, or `ANEW`.
        ema: What the averages of the network's weights begin with, by their names in it; no more than were taken.
        optimizer: What the optimiser keeps of them, "<moment>/<weight>".
        optimizer_numbers: Its numbers, as checkpoints have them.
        folder: The checkpoint.
        told: Sentences on what does not go on as it was.
    """

    origin: Mapping[str, Any]
    ema: Mapping[str, Tensor]
    optimizer: Mapping[str, Tensor]
    optimizer_numbers: Mapping[str, Any]
    folder: Path
    told: tuple[str, ...]


def start_of(recipe: Recipe, network: StagedNetwork) -> Start:
    """Reads what a recipe's `init` names, and puts the weights that fit into a network.

    Args:
        recipe: With an `init`; its stage edges are known.
        network: As the recipe builds it, on any device.

    Raises:
        RunError: There is no such run or checkpoint, or it is damaged; or nothing of it fits; or the optimiser's state
            is wanted, and the run had another optimiser.
        PartError: `init.stages` names a stage that the run has not.
    """
    init = recipe.init
    assert init is not None  # the caller looks
    parent = run_recipe(init.run)
    parent = parent.with_partition(parent.partition())
    folder = _checkpoint(init.run, init.checkpoint)
    source = weights_of(folder, parent, init.kind)
    if init.optimizer and recipe.training.rule != parent.training.rule:
        raise RunError(
            f"init.optimizer: {init.run} was trained by {parent.training.rule}, and {recipe.training.rule} cannot go "
            "on with what that keeps: leave init.optimizer out, or give this recipe the optimiser of the run"
        )
    weights = read_weights(source)
    averaged = weights_of(folder, parent, "ema")
    averages = weights if averaged == source else read_weights(averaged)
    trained_there = build(parent, "meta").network
    for path, each in ((source, weights), (averaged, averages)):
        refuse_misfits(trained_there.state_dict(), each, path, "recipe", _buffers(trained_there))
    from_ = dict(_sources(recipe, parent, init.run))
    found = carry(recipe, parent, network, trained_there, from_, (weights, averages))
    if not found.parts:
        raise RunError(
            f"init.run: no part of {init.run} has the weights that this recipe wants ({'; '.join(found.told)}): "
            "`msdk recipe diff` shows how the two differ"
        )
    if recipe.autoencoder is not None and _latents_differ(recipe, parent):
        found.told.append("the autoencoder is not that of the run, whose weights were trained on its latents")
    model, ema = found.states
    own = network.state_dict()
    with torch.no_grad():
        for name, value in model.items():
            own[name].copy_(value)
    trained = {name for name, parameter in network.named_parameters() if parameter.requires_grad}
    old = load_checkpoint(folder) if init.optimizer else None
    numbers = {} if old is None else dict(old.optimizer_numbers)
    if old is not None:
        numbers["state"] = found.moments(numbers.get("state", {}), trained)
    origin = {
        "run": str(init.run),
        "checkpoint": folder.name,
        "sha256": digest_of(source),
        "weights": init.kind,
        "optimizer": init.optimizer,
        "parts": {part: found.said(part) for part in from_},
    }
    moments = {} if old is None else found.moments(old.optimizer, trained)
    return Start(origin, ema, moments, numbers, folder, tuple(found.told))


def _latents_differ(recipe: Recipe, parent: Recipe) -> bool:
    ours, theirs = recipe.autoencoder, parent.autoencoder
    if ours is None or theirs is None:
        return ours is not theirs
    if attrs.evolve(ours, weights=None) != attrs.evolve(theirs, weights=None):
        return True
    return digest_of(weights_file(ours)) != digest_of(weights_file(theirs))


def _buffers(network: nn.Module) -> list[str]:
    return [name for name, _ in network.named_buffers(remove_duplicate=False)]


def _checkpoint(run: Path, iteration: int | None) -> Path:
    if iteration is None:
        return latest(run)
    known = {int(path.name): path for path in checkpoints(run)}
    if iteration not in known:
        raise RunError(
            f"init.checkpoint: {run} has no checkpoint of iteration {iteration}. Known: "
            f"{', '.join(map(str, known)) or 'none'}."
        )
    return known[iteration]


def _sources(recipe: Recipe, parent: Recipe, run: Path) -> Iterator[tuple[str, str]]:
    """Each part of the new network, and the one of the old network that it would come from; ANEW for none."""
    stages, count = _stages(recipe, parent), len(parent.decoders)
    for stage in stages:
        if not -1 <= stage < count:
            raise PartError(f"init.stages: {run} has no stage {stage}: there are {count}, 0 to {count - 1}")
    adapted = ["encoders"] + (["adapters"] if recipe.adapter is not None else [])
    own, theirs = recipe.sharing == "separate", parent.sharing == "separate"
    wanted = {stage for stage in stages if stage >= 0}
    if theirs and not own and len(wanted) > 1:
        raise PartError(
            f"init.stages: {run} has an encoder for each stage, and this recipe one for all: name the stage that it "
            f"comes from, as init.stages = {[min(wanted)] * len(stages)}"
        )
    for kind in adapted:
        for index, stage in enumerate(stages if own else [min(wanted, default=-1)]):
            number = stage if theirs else 0  # a shared encoder is of any stage
            there = stage >= 0 and (kind == "encoders" or parent.adapter is not None)
            yield f"{kind}.{index}", f"{kind}.{number}" if there else ANEW
    for index, stage in enumerate(stages):
        yield f"decoders.{index}", f"decoders.{stage}" if stage >= 0 else ANEW


def _stages(recipe: Recipe, parent: Recipe) -> tuple[int, ...]:
    """The stage of the run that each stage comes from: told, or by the share of the training times that they have."""
    assert recipe.init is not None
    if not isinstance(recipe.init.stages, str):
        return recipe.init.stages
    new, old, schedule = recipe.partition(), parent.partition(), recipe.schedule
    low, high = schedule.ratio(schedule.t_min), schedule.ratio(schedule.t_max)
    pieces = Partition(sorted({*new.edges, *(edge for edge in old.edges if low < edge < high)}))
    overlap = [[0.0] * len(old) for _ in new.stages]
    for piece, share in zip(pieces.stages, recipe.training.noise.shares(schedule, pieces), strict=True):
        ratio = min(piece.high, high)  # an edge belongs to the lower stage
        overlap[new.of(ratio)][old.of(ratio)] += share + 1e-12  # also where nothing is drawn
    return tuple(shares.index(max(shares)) for shares in overlap)


@attrs.frozen
class Carried:
    """What goes along into a network of another recipe.

    Attributes:
        states: Of each of the given sets of weights, those that were taken, under their new names.
        parts: Part of the new network -> the part of the old one that it is, or was widened from.
        widened: Those of them that are wider than there.
        told: Sentences on what does not go on as it was.
    """

    states: tuple[dict[str, Tensor], ...]
    parts: Mapping[str, str]
    widened: frozenset[str]
    told: list[str]

    def said(self, part: str) -> str:
        """Where a part comes from, in words."""
        return self.parts.get(part, ANEW) + (", widened" if part in self.widened else "")

    def moments(self, found: Mapping[str, Any], trained: Collection[str]) -> dict[str, Any]:
        """What an optimiser keeps of weights that were copied and are trained, under their names here."""
        whole = {part: other for part, other in self.parts.items() if part not in self.widened}
        return {
            f"{moment}/{place}": value
            for key, value in found.items()
            for moment, _, name in [key.rpartition("/")]
            for part, other in whole.items()
            if name.startswith(f"{other}.") and (place := part + name.removeprefix(other)) in trained
        }


def carry(
    recipe: Recipe,
    parent: Recipe,
    network: StagedNetwork,
    old: StagedNetwork,
    from_: Mapping[str, str],
    weights: Sequence[Mapping[str, Tensor]],
) -> Carried:
    """What of the weights of one network goes into another, part by part: copied, widened, or left.

    Args:
        recipe: Of the new network.
        parent: Of the old one.
        network: The new one, with its initial weights.
        old: The old one, perhaps without storage.
        from_: Part of the new one -> part of the old one, or `ANEW`.
        weights: Of the old one; several sets of the same names, as averages are.
    """
    states: tuple[dict[str, Tensor], ...] = tuple({} for _ in weights)
    parts: dict[str, str] = {}
    widened: set[str] = set()
    told = [
        f"the {name} is not that of the run whose weights these are"
        for name in ("schedule", "parameterization")
        if getattr(recipe, name) != getattr(parent, name)
    ]
    for part, other in from_.items():
        if other == ANEW:
            told.append(f"{part} begins anew")
            continue
        new, theirs = network.get_submodule(part), old.get_submodule(other)
        specs = _spec(recipe, part), _spec(parent, other)
        differing = _settings(*specs)
        misfit = _misfit(_shapes(new), _shapes(theirs))
        for state, each in zip(states, weights, strict=True):
            own = {
                name.removeprefix(f"{other}."): value for name, value in each.items() if name.startswith(f"{other}.")
            }
            if misfit:
                try:
                    own = _widened(new, theirs, own, [name for name in differing if name not in SIZES])
                except PartError as error:
                    told.append(f"{part} begins anew: it is not {other}, where {misfit}, {error}")
                    break
            state |= {f"{part}.{name}": value for name, value in own.items()}
        else:
            parts[part] = other
            widened |= {part} if misfit else set()
            if differing and not misfit:
                told.append(f"{part} has the weights of {other}, and other settings: {', '.join(differing)}")
    return Carried(states, parts, frozenset(widened), told)


SIZES = ("channels", "channel_mult", "width", "heads", "head_width", "mlp_ratio", "depth", "groups")
"""Settings of decoders that may differ where one is widened."""


def _widened(
    new: nn.Module, old: nn.Module, weights: Mapping[str, Tensor], differing: Sequence[str]
) -> dict[str, Tensor]:
    """The weights with which a wider part computes what a narrower one does.

    Raises:
        PartError: There are none, which is told with the reason.
    """
    if type(new) is not type(old) or not hasattr(new, "widen"):
        raise PartError("and cannot be widened from it" + ("" if hasattr(new, "widen") else ": only decoders can"))
    if differing:
        raise PartError(f"and cannot be widened from it: it has other settings ({', '.join(differing)})")
    narrow = copy.deepcopy(old).to_empty(device="cpu")
    narrow.load_state_dict(weights)
    wide = copy.deepcopy(new).cpu()
    try:
        cast("Any", wide).widen(narrow)
    except PartError as error:
        raise PartError(f"and cannot be widened without another output: {error}") from error
    return wide.state_dict()


def _shapes(part: nn.Module) -> dict[str, tuple[int, ...]]:
    return {name: tuple(value.shape) for name, value in part.state_dict().items()}


def _misfit(ours: Mapping[str, tuple[int, ...]], theirs: Mapping[str, tuple[int, ...]]) -> str:
    """Where the weights of two parts differ, in words; nothing where they do not."""
    for name, shape in ours.items():
        if theirs.get(name) != shape:
            return f"{name} is {theirs[name]} instead of {shape}" if name in theirs else f"there is no {name}"
    return next((f"there is {name}, which this has not" for name in theirs if name not in ours), "")


def _spec(recipe: Recipe, part: str) -> object:
    kind, _, index = part.partition(".")
    if kind == "adapters":
        return recipe.adapter
    return recipe.encoder_of(int(index)) if kind == "encoders" else recipe.decoders[int(index)]


def _settings(one: object, other: object) -> list[str]:
    """Fields on which two parts differ; dropout is no other function."""
    if type(one) is not type(other):
        return ["name"]
    fields = (
        [field.name for field in attrs.fields(type(one)) if field.name != "dropout"] if attrs.has(type(one)) else []
    )
    return [name for name in fields if getattr(one, name) != getattr(other, name)]
