"""Which part makes what training is given not finite: looked for when a run has diverged, step by step."""

import math
from collections.abc import Iterable

import attrs
from torch import Tensor

from msdk.recipe import Recipe
from msdk.training.drawing import Feed


def culprit(recipe: Recipe, feed: Feed, iterations: Iterable[int]) -> object:
    """The first part, in the order of a step, whose numbers are not finite; None where all of them are.

    What networks, objective and optimiser make of it is not looked at: by now their weights are not finite either.

    Args:
        recipe: Of the run.
        feed: That gave the steps what they were computed from, and gives the same again.
        iterations: The steps to look at.
    """
    options, schedule = recipe.training, recipe.schedule
    for iteration in iterations:
        batch, draw, *_ = feed(iteration)
        times = draw.times
        told: list[tuple[object, Iterable[Tensor | float]]] = [
            (recipe.data, (batch.images,)),
            (options.noise, (times,)),
            (schedule, (schedule.alpha(times), schedule.sigma(times))),
            (recipe.parameterization, attrs.astuple(recipe.parameterization.coefficients(schedule, times))),
            (recipe.weighting, (draw.weights,)),
        ]
        if options.lr_schedule is not None:
            told.append((options.lr_schedule, (options.lr_schedule.factor(iteration, options.iterations),)))
        for part, numbers in told:
            if not all(bool(x.isfinite().all()) if isinstance(x, Tensor) else math.isfinite(x) for x in numbers):
                return part
    return None
