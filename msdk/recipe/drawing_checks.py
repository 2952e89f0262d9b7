"""What is wrong with how a batch is cut and its stages are drawn. Imports no torch."""

import math
from collections.abc import Iterable

from msdk.errors import MsdkError, Problem
from msdk.objectives.base import Objective
from msdk.recipe.fields import Recipe
from msdk.recipe.salvaging import failing, stated
from msdk.registry import registry_for


def micro_batches(recipe: Recipe) -> Iterable[Problem]:
    batch, parts = recipe.training.batch_size, recipe.training.accumulation
    if batch % parts:
        fitting = max(divisor for divisor in range(1, min(parts, batch) + 1) if batch % divisor == 0)
        yield Problem(
            "training.accumulation",
            f"a batch_size of {batch} cannot be cut into {parts} micro-batches of one size: use {fitting}, or another "
            "divisor of it, or another batch_size",
        )


def stage_groups_misfits(recipe: Recipe) -> Iterable[Problem]:
    options = recipe.training
    if not stated(options, "stage_groups"):
        return
    groups, batch = options.groups(0), options.batch_size
    if batch % groups:
        fitting = max(divisor for divisor in range(1, min(groups, batch) + 1) if batch % divisor == 0)
        yield Problem(
            "training.stage_groups",
            f"a batch_size of {batch} cannot be cut into {groups} groups of one size: use {fitting}, or another "
            "divisor of it, or another batch_size",
        )
    elif groups > 1 and not options.mixed:
        yield Problem("training.mixed", f"false means stage_groups = 1, but stage_groups is {groups}: leave mixed out")
    elif groups > 1 and not options.stage_draw.grouped:
        yield Problem(
            "training.stage_groups",
            f"{options.stage_draw} gives a whole batch one stage, so there are no {groups} groups: leave this key out",
        )


def stage_draw_misfits(recipe: Recipe) -> Iterable[Problem]:
    misfit = list(failing("training.stage_draw", lambda: recipe.training.stage_draw.check(len(recipe.decoders))))
    yield from misfit
    natural = None if misfit else _natural(recipe)
    if natural is None:
        return
    if recipe.training.stage_draw.own is not None and not recipe.training.loss.asks:
        name = registry_for(Objective).name_of(type(recipe.training.loss))
        told = f"{name} asks the network of an image's time, so own does nothing: leave it out, or train by denoising"
        yield Problem("training.stage_draw", told)
    misfit = list(failing("training.stage_draw", lambda: recipe.stage_draw.reach(natural)))
    yield from misfit
    if not misfit and recipe.training.importance:
        yield from failing("training.importance", lambda: recipe.stage_draw.unbiased(natural))


def _shares(recipe: Recipe) -> list[float] | None:
    """The shares of all stages under the law of training times.

    None where edges are still to be found, or what is wrong with them or with the law is told elsewhere.
    """
    if recipe.clustered or stage_count(recipe) != len(recipe.decoders):
        return None
    try:
        shares = recipe.training.noise.shares(recipe.schedule, recipe.partition())
    except (MsdkError, ArithmeticError, ValueError):
        return None
    return shares if all(map(math.isfinite, shares)) else None


def _natural(recipe: Recipe) -> list[float] | None:
    """Those of the stages that are trained; None also where these are not told rightly."""
    wrong = [*trained_stages(recipe), *drawn_stages(recipe)]
    return None if wrong or _shares(recipe) is None else recipe.natural_shares()


def trained_stages(recipe: Recipe) -> Iterable[Problem]:
    if not stated(recipe.stages, "train"):
        return
    stages, count = recipe.stages.train or (), len(recipe.decoders)
    beyond = [stage for stage in stages if not 0 <= stage < count]
    if beyond:
        yield Problem(
            "stages.train", f"there is no stage {beyond[0]}: there are {count}, 0 to {count - 1}, least noise first"
        )
    elif not stages:
        yield Problem("stages.train", "names no stage, so nothing would be trained: name one, or leave this key out")
    elif len(set(stages)) < len(stages):
        yield Problem("stages.train", f"names a stage twice: {list(stages)}")


def drawn_stages(recipe: Recipe) -> Iterable[Problem]:
    if not stated(recipe.stages, "train") or list(trained_stages(recipe)):
        return
    shares = _shares(recipe)
    if shares is not None and not any(shares[stage] > 0 for stage in recipe.trained):
        yield Problem("stages.train", "training.noise draws no time in these stages: name others, or move the law")


def gradients_misfits(recipe: Recipe) -> Iterable[Problem]:
    """Gradients of the stages of what they do not share, or what is not trained."""
    options = recipe.training
    asked = {"gradients": stated(options, "gradients"), "gradient_cosine": bool(options.gradient_cosine)}
    given = [key for key, each in asked.items() if each]
    reason = ""
    if given and len(recipe.decoders) == 1:
        reason = "there is one stage"
    elif given and recipe.sharing == "separate":
        reason = 'sharing is "separate"'
    elif given and not recipe.stages.train_encoder:
        reason = "stages.train_encoder is false"
    for key in given if reason else ():
        yield Problem(
            f"training.{key}", f"is about the encoder that stages share in training, but {reason}: leave this key out"
        )


def stage_count(recipe: Recipe) -> int:
    stages = recipe.stages
    if stages.clustering is not None:
        return stages.clustering.stages
    edges = stages.edges_ratio if stages.edges_ratio is not None else stages.edges_t
    return len(edges or ()) + 1
