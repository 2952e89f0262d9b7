"""New runs from trained ones: stages split, grown or put together anew, with all that the old run had learnt."""

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import attrs
from safetensors.torch import save
from torch import Tensor

from msdk.arguments import as_annotated
from msdk.denoiser.building import build
from msdk.denoiser.weights import aliases, read_weights
from msdk.errors import RecipeError, RunError, quoted
from msdk.recipe import Recipe
from msdk.recipe.checks import misfits
from msdk.runs.checkpoint import Checkpoint, load_checkpoint, stored, write_checkpoint
from msdk.runs.folder import latest, refuse_existing, run_recipe, start_run
from msdk.runs.lock import class_names, read_lock

Rename = Callable[[str], Iterable[str]]
"""Name of a weight or buffer of the old network -> its names in the new one: none to leave it, several to copy it."""

Images = Callable[[tuple[int, ...]], Sequence[int]]
"""Images that each old stage has seen -> those that each new one begins with."""


@as_annotated
def fork(
    run: str | Path, recipe: Recipe, rename: Rename, out: str | Path, *, images: Images = lambda seen: seen
) -> Path:
    """Makes the run folder of another recipe from a trained run, at the same iteration.

    All that the newest checkpoint holds goes along: weights, averages, and what the optimiser keeps of each weight go
    where `rename` sends that weight; what belongs to none (counts of the optimiser, what an objective learnt) stays as
    it is. A weight that the new network alone has begins as the recipe's initial one, and where the new network does
    not train a weight, nothing is kept for its training. lock.json says what the run was forked from.

    `msdk train OUT/recipe.toml --out OUT --resume --set training.iterations=N` goes on.

    Args:
        run: A run folder with a checkpoint.
        recipe: Of the new run; its stage edges are known, and its optimiser is that of the old run.
        rename: Where each weight of the old network stands in the new one.
        out: The new run folder.
        images: How the images that the stages have seen are shared out among the new ones.

    Returns:
        The new run folder.

    Raises:
        RunError: `run` has no checkpoint, or `out` exists; `rename` names what the new network has not, or has in
            another shape; the recipe has another optimiser or objective, or other stages than `images` counts.
        RecipeError: The recipe's parts do not fit each other.
        PartError: Its stage edges are still to be found.
    """
    run, out = Path(run), Path(out)
    refuse_existing(out, force=False)
    parent, source = run_recipe(run), latest(run)
    recipe = recipe.with_partition(recipe.partition())
    problems = list(misfits(recipe))  # made in Python, nobody has looked at it as a whole
    if problems:
        raise RecipeError(f"the recipe of {out}", problems)
    if recipe.training.rule != parent.training.rule:
        raise RunError(
            f"{run} was trained by {parent.training.rule}, and {recipe.training.rule} cannot go on with what that "
            "keeps: give the new recipe the optimiser of the run"
        )
    if recipe.training.loss != parent.training.loss:
        raise RunError(
            f"{run} was trained by the objective {parent.training.loss}, and {recipe.training.loss} cannot go on with "
            "what that has learnt: give the new recipe the objective of the run"
        )
    old = load_checkpoint(source)
    counts: Any = images(old.images_by_stage)
    if not isinstance(counts, Sequence):
        raise RunError(f"images gives a list of counts, one for each stage, but it gave {quoted(counts)}")
    seen = tuple(cast("Sequence[int]", counts))
    if len(seen) != len(recipe.decoders):
        raise RunError(f"images are counted for {len(seen)} stages, but the new recipe has {len(recipe.decoders)}")
    # Its metrics begin anew.
    before = old.before
    if before[0] and len(recipe.decoders) != len(parent.decoders):  # all that was read counts, whatever its stages
        shares = recipe.training_shares(before[0])
        before = before[0], tuple(sum(before[1]) * share for share in shares)
    new = attrs.evolve(_moved(old, recipe, rename, run), images_by_stage=seen, untold=((), ()), before=before)
    if len(recipe.decoders) != len(parent.decoders):  # nobody says which stage is whose: none is ramped up anew
        turns = (max(old.turns, default=0),) * len(recipe.decoders) if old.turns else ()
        new = attrs.evolve(new, turns=turns, combined=())
    if not recipe.training.averaged:
        new = attrs.evolve(new, ema={})
    elif not new.ema:  # averages begin with the weights
        new = attrs.evolve(new, ema={name: value.clone() for name, value in new.model.items()})
    lock = read_lock(run)
    origin = {"run": str(run), "checkpoint": source.name, "sha256": digest_of(stored(source, "model"))}
    start_run(
        out,
        recipe,
        data_digest=lock.data.get("sha256", "") if recipe.data == parent.data else "",
        class_names=class_names(run) if recipe.data == parent.data else None,
        forked_from=[origin, *lock.forked_from],
        started_from=lock.started_from,
        furnish=lambda folder: write_checkpoint(folder, new),
    )
    return out


def digest_of(weights: Path) -> str:
    """Of a file of weights; of shards, that of the file which they would be gathered to."""
    if weights.is_dir():
        return hashlib.sha256(save(read_weights(weights))).hexdigest()
    with weights.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _moved(old: Checkpoint, recipe: Recipe, rename: Rename, run: Path) -> Checkpoint:
    """A checkpoint with everything under its new names, whatever fields it has."""
    network = build(recipe, "meta").network
    shapes = {name: tuple(value.shape) for name, value in network.state_dict().items()}
    also = aliases(network)
    trained = {name for name, parameter in network.named_parameters() if parameter.requires_grad}
    places = {name: _places(rename, name) for name in old.model}
    _refuse_misplaced(old.model, places, shapes, run)
    fresh = set(shapes).difference(*places.values())
    initial = build(recipe).network.state_dict() if fresh else {}

    def moved(value: Any) -> Any:
        if isinstance(value, Tensor):
            return value.clone()  # safetensors holds no tensor twice
        if not isinstance(value, Mapping):
            return value
        table = cast("Mapping[str, Any]", value)
        found: dict[str, Any] = {}
        for key, inner in table.items():
            # What the optimiser keeps is under "<moment>/<weight>"; no name of a weight has a slash.
            moment, slash, weight = key.rpartition("/")
            for place in places.get(weight, (weight,)):
                own = also.get(place, place) if slash else place  # moments are kept under the first name of a weight
                if not slash or weight not in places or own in trained:
                    found[f"{moment}{slash}{own}"] = moved(inner)
        if places.keys() <= table.keys():  # a whole network: its weights, or their averages
            found |= {name: initial[name].clone() for name in shapes if name in fresh}
        return found

    found = {field.name: moved(getattr(old, field.name)) for field in attrs.fields(Checkpoint)}
    new = attrs.evolve(Checkpoint(**found), objective=dict(old.objective))  # its names are its own
    # What was watched is told by stage, and not of other ones.
    same = not fresh and all(found == (name,) for name, found in places.items())
    return new if same else attrs.evolve(new, watched=None, best={})


def _places(rename: Rename, name: str) -> tuple[str, ...]:
    """Where a weight goes, as a function of somebody's says."""
    found: Any = rename(name)
    if isinstance(found, str) or not isinstance(found, Iterable):
        raise RunError(f"rename gives a list of names for each weight, but for {name} it gave {quoted(found)}")
    return tuple(cast("Iterable[str]", found))


def _refuse_misplaced(
    weights: Mapping[str, Tensor],
    places: Mapping[str, tuple[str, ...]],
    shapes: Mapping[str, tuple[int, ...]],
    run: Path,
) -> None:
    """Raises `RunError` where a weight would get lost, or two would be one."""
    wrong: list[str] = []
    taken: dict[str, str] = {}
    for name, sent in places.items():
        for place in sent:
            if place not in shapes:
                wrong.append(f"{name} would be {place}, which the new network has not")
            elif shapes[place] != tuple(weights[name].shape):
                wrong.append(f"{name} is {tuple(weights[name].shape)}, and {place} is {shapes[place]}")
            elif place in taken:
                wrong.append(f"{taken[place]} and {name} would both be {place}")
            taken[place] = name
    if wrong:
        more = f"; and {len(wrong) - 3} more" if len(wrong) > 3 else ""
        raise RunError(f"the weights of {run} do not fit the new recipe: {'; '.join(wrong[:3])}{more}")
