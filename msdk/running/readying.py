"""How a run is made ready: one writer of its folder, and edges; and `msdk.build` and `msdk.train`, which find them too.

As `msdk.budget` and the commands do; a `Recipe` is a value, and keeps to what it says.
"""

import contextlib
from collections.abc import Callable, Generator
from pathlib import Path

import attrs
import torch

from msdk import denoiser
from msdk.arguments import as_annotated
from msdk.clustering import Clusters, kept_clusters, with_edges
from msdk.denoiser import building
from msdk.distributed import Group, restarted, this_rank, together
from msdk.evaluation import judging
from msdk.partition import Partition
from msdk.recipe import Recipe, recipe_of
from msdk.runs import checkpoints, refuse_existing
from msdk.runs.writer import one_writer
from msdk.training import Step, TrainingResult
from msdk.training.beginning import train_here


@attrs.frozen(kw_only=True, eq=False)
class Ready:
    """A run that can begin, or go on.

    Attributes:
        recipe: With its edges.
        clusters: What found them just now; None where the recipe or the run knew them.
        place: The run folder.
        device: Where to train; CUDA where there is one when None.
        group: The processes that train it.
        resume: Whether it goes on where it has a checkpoint.
        force: Whether an existing folder is replaced.
    """

    recipe: Recipe
    clusters: Clusters | None
    place: Path
    device: str | None
    group: Group
    resume: bool
    force: bool

    def train(
        self,
        *,
        force_data: bool = False,
        progress: Callable[[Step], None] | None = None,
        warn: Callable[[str], None] | None = None,
    ) -> TrainingResult:
        """Trains it; what found its edges is kept in its folder, and its checkpoints are judged as its recipe says."""
        return train_here(
            self.recipe,
            self.place,
            device=self.device,
            resume=self.resume,
            force=self.force,
            force_data=force_data,
            progress=progress,
            warn=warn,
            furnish=lambda folder: kept_clusters(folder, self.clusters),
            judge=judging(self.recipe, self.device),
            group=self.group,
        )


@contextlib.contextmanager
def readied(
    recipe: Recipe,
    place: Path,
    group: Group,
    *,
    device: str | None = None,
    resume: bool = False,
    force: bool = False,
    cache: bool = True,
    progress: Callable[[str, int, int], None] = lambda name, done, total: None,
) -> Generator[Ready]:
    """A run whose folder this process alone writes until the end; edges are found where nobody knows them.

    What stands in the way of the folder is told before anything slow.

    Args:
        recipe: What to train.
        place: The run folder; with `resume` and a checkpoint in it, the edges are its own.
        group: The processes that train it.
        device: Where edges are found, and it is trained.
        resume: Go on from the newest checkpoint. It is so where torchrun has started the processes anew.
        force: Replace an existing run folder.
        cache: Whether to take edges that were found before for the same data and settings.
        progress: Told (strategy, done, total).

    Raises:
        MsdkError: As `msdk.cluster` does.
        RunError: The folder exists, or another process writes it.
    """
    resume = group.any(resume or restarted() > 0)
    with contextlib.ExitStack() as opened:

        def begin() -> None:
            if group.rank.first:
                refuse_existing(place, force=force, resume=resume)
                opened.enter_context(one_writer(place))

        group.agreed(begin)
        goes_on = resume and checkpoints(place)
        ready, clusters = with_edges(
            recipe, device=device, run=place if goes_on else None, cache=cache, progress=progress
        )
        yield Ready(
            recipe=ready,
            clusters=clusters,
            place=place,
            device=device,
            group=group,
            resume=resume,
            force=force,
        )


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
        if isinstance(recipe, Recipe):
            whole = Ready(
                recipe=recipe,
                clusters=None,
                place=Path(run_dir),
                device=device,
                group=group,
                resume=group.any(resume or restarted() > 0),
                force=force,
            )
            return whole.train(force_data=force_data, progress=progress, warn=warn)
        loaded = recipe_of(recipe)
        with readied(loaded, Path(run_dir), group, device=device, resume=resume, force=force) as ready:
            return ready.train(force_data=force_data, progress=progress, warn=warn)
