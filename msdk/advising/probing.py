"""Small trainings that say how losses fall, as a study: its trials are run folders by address, each made once."""

import itertools
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import attrs
import numpy as np

from msdk import clusterings
from msdk.budgeting import budget
from msdk.budgeting.widths import width_of, with_width
from msdk.clustering import cluster, with_edges
from msdk.decoders.base import Decoder
from msdk.errors import MsdkError, PartError
from msdk.recipe import Recipe, Stages, load_recipe
from msdk.recipe.quantities import quantity, written
from msdk.recipe.structuring import to_data
from msdk.studies.files import OWN, assigned, structured
from msdk.studies.planning import Plan, Trial, plan

UNIFIED = "unified"
"""The arm of one stage; the others are called by the width that all their decoders have."""

STAGES = 3
"""Of a recipe that has one: the paper's number, which `optimal-denoiser` finds."""

LOOKS = 12
"""At the held-out loss of a probe, or more: half of them are left out, see `msdk.advising.asking`."""

EVERY = 40
"""Iterations between looks, but for probes too short for LOOKS of them. So all of 480 iterations or more are looked at
alike, and longer ones go on from shorter ones."""

DRAWS = 600
"""Noisy images at which the optimal denoiser is asked for its loss."""


@attrs.frozen(eq=False)
class Probes:
    """What is trained, and what is known before.

    Attributes:
        file: Of the recipe.
        staged: The recipe with stages and their edges; widths are those of its file, or of its one decoder.
        edges_by: What found the edges.
        widths: That are probed, ascending.
        unified_width: Of the unified network.
        floors: Loss of the optimal denoiser in each stage.
        plan: The study.
        trials: Of it.
        budget: Training FLOPs that are advised on.
    """

    file: Path
    staged: Recipe
    edges_by: str
    widths: tuple[int, ...]
    unified_width: int
    floors: tuple[float, ...]
    plan: Plan
    trials: tuple[Trial, ...]
    budget: float


@attrs.frozen(kw_only=True)
class Asked:
    """What is asked of `msdk advise`.

    Attributes:
        file: A recipe with stages, or with one: then three are found in its data.
        overrides: "key=value" for it.
        budget: Training FLOPs that are advised on, "100T" or a number; those of the recipe's training when not given.
        widths: Channels of decoders to probe; the recipe's own where these are several, else the encoder's, half as
            many, and half as many again.
        iterations: Of each probe, 12 or more.
        seeds: Three or more.
        device: Where edges are found.
        cache: Whether counts and edges of earlier calls are used.

    Raises:
        MsdkError: Probes are too short to be looked at.
    """

    file: Path
    overrides: Sequence[str] = ()
    budget: str | float | None = None
    widths: Sequence[int] | None = None
    iterations: int = 480
    seeds: Sequence[int] = (0, 1, 2)
    device: str | None = None
    cache: bool = True

    def __attrs_post_init__(self) -> None:
        if self.iterations < LOOKS:
            raise MsdkError(
                f"probes of {self.iterations} iterations are looked at {LOOKS} times: train them for {LOOKS} or more"
            )


def probes_of(asked: Asked) -> Probes:
    """What is to be trained; finds edges, and prices all of it.

    Raises:
        MsdkError: The recipe or the budget is wrong, or its decoders have no width, or not these.
    """
    file, device, cache = asked.file, asked.device, asked.cache
    spent = None if asked.budget is None else quantity(str(asked.budget), "FLOPs")
    recipe = load_recipe(file, asked.overrides)
    if recipe.encoder is None:
        raise MsdkError(
            f"{file} has [[encoders]], one for each stage, and what is compared here are widths of decoders behind "
            "one: give [encoder]"
        )
    middle = width_of(recipe.encoder, "encoder")
    decoders = list(recipe.decoders if len(recipe.decoders) > 1 else recipe.decoders * STAGES)
    named = [width_of(each, f"decoders.{number}") for number, each in enumerate(recipe.decoders)]
    chosen = tuple(sorted(set(asked.widths or (named if len(set(named)) > 1 else _around(middle)))))
    if len(chosen) < 2:
        example = ",".join(map(str, _around(middle)))
        raise MsdkError(f"one width leaves nothing to choose: name two or more, for example {example}")
    staged, by = recipe, "the recipe"
    if len(recipe.decoders) == 1:
        found: Any = clusterings.get("msdk:optimal-denoiser")
        staged = attrs.evolve(recipe, stages=Stages(clustering=found()), decoders=tuple(decoders), sharing="shared")
    if staged.clustered:
        by = str(to_data(staged.stages.clustering)["name"])
        staged, _ = with_edges(staged, device=device, cache=cache)
    if spent is None:
        training = budget(staged if len(recipe.decoders) > 1 else recipe, cache=cache).training
        assert training is not None
        spent = training.total_flops
    options = _options(recipe, asked)
    arms = {
        UNIFIED: {
            "recipe": str(file.resolve()),
            "set": _unified(recipe, with_width(decoders[0], middle, "decoders.0")),
        },
        **{str(width): {"recipe": str(file.resolve()), "set": _staged(staged, decoders, width)} for width in chosen},
    }
    study = structured({"study": options, "arms": arms}, file)
    whole = plan(study, device=device, cache=cache)
    # Laws are of the second half of what a probe spends, and say nothing of less.
    least = max(each.price.flops for each in whole.kept) / 2
    if spent < least:
        raise MsdkError(
            f"a budget of {written(spent, 'FLOPs')} is less than the {written(least, 'FLOPs')} of half a probe, and "
            "laws are fitted to the other half: name more, or shorten the probes by --iterations"
        )
    return Probes(
        file=file,
        staged=staged,
        edges_by=by,
        widths=chosen,
        unified_width=middle,
        floors=floors(staged, device=device, cache=cache),
        plan=whole,
        trials=whole.trials(),
        budget=spent,
    )


def _around(width: int) -> tuple[int, int, int]:
    return max(width // 2, 1), width, width + width // 2


def _options(recipe: Recipe, asked: Asked) -> Mapping[str, Any]:
    every = min(asked.iterations // LOOKS, EVERY)
    # What a study says itself: the seeds are those of the probes, and `held_out` is the recipe's.
    fixed = {key: value for key, value in (assigned("--set", each) for each in asked.overrides) if key not in OWN}
    own = {
        "training.iterations": asked.iterations // every * every,
        "training.warmup": min(recipe.training.warmup, every),
        "training.checkpoint_every": LOOKS * every,
    }
    return {
        "title": "Probes",
        "baseline": UNIFIED,
        "seeds": list(asked.seeds),
        "checkpoints": every,
        "held_out": recipe.data.held_out or 0.1,
        "set": {**fixed, **own},
    }


def _unified(recipe: Recipe, decoder: Decoder) -> Mapping[str, Any]:
    """What makes a recipe one of a single stage."""
    changes: dict[str, Any] = {"decoders": [_plain(decoder)], "stages": {"edges_ratio": []}, "sharing": "shared"}
    if len(recipe.decoders) > 1:
        changes |= {"training.stage_draw": "natural", "samplers": []}
    if recipe.sampling.steps_per_stage is not None:
        changes["sampling"] = {"steps": sum(recipe.sampling.steps_per_stage)}
    return changes


def _staged(staged: Recipe, decoders: Sequence[Decoder], width: int) -> Mapping[str, Any]:
    """What gives all stages decoders of one width."""
    specs = [_plain(with_width(each, width, f"decoders.{number}")) for number, each in enumerate(decoders)]
    edges = {"edges_ratio": list(staged.partition().edges)}
    return {"decoders": specs, "stages": edges, "sharing": staged.sharing}


def _plain(part: Decoder) -> Mapping[str, Any]:
    """A part as TOML has it, which knows no null."""
    return {key: value for key, value in to_data(part).items() if value is not None}


def floors(recipe: Recipe, *, device: str | None = None, cache: bool = True) -> tuple[float, ...]:
    """The loss of the optimal denoiser of the data in each stage, at the recipe's weights and times.

    It has learned every image by heart, so on noise of these images it is better than any network. Where it cannot be
    asked, as of latents or of data in [0, 1], it is 0.
    """
    import torch

    partition, law, schedule = recipe.partition(), recipe.training.noise, recipe.schedule
    spec: Any = clusterings.get("msdk:equal-error")
    strategy = spec(stages=2, draws=DRAWS, pixels="-1..1")
    try:
        asked = attrs.evolve(recipe, stages=Stages(clustering=strategy))
        (found,) = cluster(asked, device=device, cache=cache).strategies
    except PartError:
        return (0.0,) * len(partition)
    times, errors = (np.asarray(found.curves[key]) for key in ("t", "error"))
    bins = np.array_split(np.arange(len(times)), 30)
    at, error = (np.array([each[part].mean() for part in bins]) for each in (times, errors))
    edges = law.edges(schedule, partition)
    losses: list[float] = []
    inside = (torch.arange(64, dtype=torch.float64) + 0.5) / 64
    for low, high in itertools.pairwise(edges):
        drawn = law.quantile(schedule, low + (high - low) * inside)
        ratio = cast("Any", schedule.ratio(drawn)).numpy()
        weight = torch.as_tensor(recipe.weighting.weight(schedule, drawn)).expand(64).numpy()
        squares = np.interp(drawn.numpy(), at, error, left=0.0) * ratio**2
        losses.append(float((weight * squares).mean()))
    return tuple(loss if math.isfinite(loss) else 0.0 for loss in losses)
