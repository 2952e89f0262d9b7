"""`msdk.build` and `msdk.train`: of a recipe file whose stages are still to be found, they are found first.

As `msdk.budget` and the commands do; a `Recipe` is a value, and keeps to what it says.
"""

from collections.abc import Callable
from pathlib import Path

import torch

from msdk import denoiser
from msdk.arguments import as_annotated
from msdk.clustering.clusters import kept_clusters
from msdk.clustering.edges import with_edges
from msdk.denoiser import building
from msdk.distributed import restarted, this_rank, together
from msdk.evaluation import judging
from msdk.partition import Partition
from msdk.recipe import Recipe, recipe_of
from msdk.runs import checkpoints, refuse_existing
from msdk.training import Step, TrainingResult
from msdk.training.beginning import train_here


@as_annotated
def build(
    recipe: Recipe | str | Path,
    device: str | torch.device = "cpu",
    partition: Partition | None = None,
    *,
    make: building.Make = building.make_now,
) -> denoiser.Denoiser:
    """Builds the denoiser of a recipe, as `msdk.denoiser.building.build` does; the edges of a file are found if needed.

    Args:
        recipe: A recipe, or the file of one.
        device: Where parameters live; "meta" builds without memory, for counting.
        partition: Stage edges to take instead.
        make: Makes the parts.

    Raises:
        MsdkError: As `msdk.denoiser.building.build` and `msdk.cluster` do.
    """
    if isinstance(recipe, (str, Path)):
        loaded = recipe_of(recipe)
        recipe = loaded if partition is not None else with_edges(loaded)[0]
    return building.build(recipe, device, partition, make=make)


@as_annotated
def train(
    recipe: Recipe | str | Path,
    run_dir: str | Path,
    *,
    device: str | None = None,
    resume: bool = False,
    force: bool = False,
    force_data: bool = False,
    progress: Callable[[Step], None] | None = None,
    warn: Callable[[str], None] | None = None,
) -> TrainingResult:
    """Trains a recipe in a run folder, as `msdk.training.train` does; the edges of a file are found if needed.

    Args:
        recipe: A recipe, or the file of one.
        run_dir: The run folder; with `resume` and a checkpoint in it, the edges are its own.
        device: "cpu", "cuda", "cuda:1", ...; CUDA where there is one when not given. Edges are found on it, too.
        resume: Go on from the newest checkpoint; begin where there is none.
        force: Replace an existing run folder.
        force_data: Go on although the data are not those that the run was trained on.
        progress: Told after every step.
        warn: Told, in sentences, what is different where training goes on; they are warnings of Python's by default.

    Raises:
        MsdkError: As `msdk.training.train` and `msdk.cluster` do.
    """
    with together(this_rank()) as group:
        resume = group.any(resume or restarted() > 0)
        ready, clusters = recipe_of(recipe), None
        if not isinstance(recipe, Recipe):
            if group.rank.first:
                refuse_existing(Path(run_dir), force=force, resume=resume)  # before anything slow
            goes_on = resume and checkpoints(Path(run_dir))
            ready, clusters = with_edges(ready, device=device, run=run_dir if goes_on else None)
        return train_here(
            ready,
            run_dir,
            device=device,
            resume=resume,
            force=force,
            force_data=force_data,
            progress=progress,
            warn=warn,
            furnish=lambda folder: kept_clusters(folder, clusters),
            judge=judging(ready, device),
            group=group,
        )
