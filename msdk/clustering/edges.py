"""How a recipe gets its stage edges: one decision for commands, runs, comparisons and Python."""

from collections.abc import Iterable
from pathlib import Path

from msdk.clustering.clusters import Clusters
from msdk.clustering.finding import Progress, cluster
from msdk.clustering.remembering import looked_at
from msdk.recipe import Recipe
from msdk.runs import run_recipe


def with_edges(
    recipe: Recipe,
    *,
    device: str | None = None,
    run: str | Path | None = None,
    like: Iterable[tuple[Recipe, Recipe]] = (),
    cache: bool = True,
    progress: Progress | None = None,
) -> tuple[Recipe, Clusters | None]:
    """The recipe with its stage edges: as it says itself, or as was found for it before, or by a clustering now.

    Args:
        recipe: Any recipe.
        device: Where to cluster; CUDA where there is one when not given.
        run: A run folder to go on with, whose edges were found when it began.
        like: Recipes as they were loaded, each with what this function made of it. A clustering that would look at the
            same is not run again.
        cache: As `cluster` takes it.
        progress: Told how far a clustering is.

    Returns:
        The recipe, and what its clustering found; None where its edges come from elsewhere.

    Raises:
        RunError: `run` is no run folder.
        MsdkError: As `cluster` does.
    """
    if not recipe.clustered:
        return recipe, None
    if run is not None:
        return recipe.with_partition(run_recipe(Path(run)).partition()), None
    for loaded, ready in like:
        if loaded.clustered and looked_at(loaded) == looked_at(recipe):
            return recipe.with_partition(ready.partition()), None
    clusters = cluster(recipe, device=device, cache=cache, progress=progress)
    return recipe.with_partition(clusters.partition()), clusters
