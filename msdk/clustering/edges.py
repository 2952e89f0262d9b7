"""How a recipe gets its stage edges: one decision for commands, runs, comparisons and Python."""

from collections.abc import Iterable
from pathlib import Path

import attrs

from msdk.clustering.clusters import Clusters
from msdk.clustering.finding import Progress, cluster
from msdk.recipe import BudgetOptions, Recipe
from msdk.runs import run_recipe


def with_edges(
    recipe: Recipe,
    *,
    device: str | None = None,
    run: str | Path | None = None,
    like: Iterable[tuple[Recipe, Recipe]] = (),
    progress: Progress | None = None,
) -> tuple[Recipe, Clusters | None]:
    """The recipe with its stage edges: as it says itself, or as was found for it before, or by a clustering now.

    Args:
        recipe: Any recipe.
        device: Where to cluster; CUDA where there is one when not given.
        run: A run folder to go on with, whose edges were found when it began.
        like: Recipes as they were loaded, each with what this function made of it. A clustering that would look at the
            same is not run again.
        progress: Told how far a clustering is.

    Returns:
        The recipe, and what a clustering found if one ran now.

    Raises:
        RunError: `run` is no run folder.
        MsdkError: As `cluster` does.
    """
    if not recipe.clustered:
        return recipe, None
    if run is not None:
        return recipe.with_partition(run_recipe(Path(run)).partition()), None
    for loaded, ready in like:
        if loaded.clustered and _looked_at(loaded) == _looked_at(recipe):
            return recipe.with_partition(ready.partition()), None
    clusters = cluster(recipe, device=device, progress=progress)
    return recipe.with_partition(clusters.partition()), clusters


def _looked_at(recipe: Recipe) -> object:
    """All that the edges of a recipe depend on."""
    spec = recipe.stages.clustering
    needs = () if spec is None else spec.needs
    if "models" in needs:  # it trains the networks
        return attrs.evolve(recipe, title="", budget=BudgetOptions())
    found: list[object] = [recipe.stages, recipe.stages.schedule or recipe.schedule]
    if "data" in needs:
        found += [recipe.data, recipe.autoencoder, recipe.encoder.unit_range]
    if "calls" in needs:
        found += [recipe.schedule, recipe.sampler, recipe.samplers, recipe.sampling]
    return found
