"""Runs clustering strategies on a recipe's data."""

import bisect
import functools
import importlib.metadata
import inspect
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import attrs

from msdk import __version__, clusterings
from msdk.arguments import as_annotated
from msdk.cache import keep, recall
from msdk.clustering.clusters import Clusters, Strategy
from msdk.clustering.estimates import run_estimate
from msdk.clustering.gradients import loss_gradients
from msdk.clustering.points import DataPoints
from msdk.clustering.remembering import key_of
from msdk.clusterings.base import Clustering, Points, Subject
from msdk.datasets.base import Source
from msdk.denoiser.building import build_autoencoder, pick_device, weights_file
from msdk.distributed import Group, this_rank, together
from msdk.errors import DataError, PartError, RunError
from msdk.partition import Partition
from msdk.recipe import Recipe, recipe_of, uncalled, undertrained
from msdk.recipe.results import to_json
from msdk.recipe.structuring import to_data
from msdk.schedules.base import Schedule
from msdk.threads import threads_for

if TYPE_CHECKING:
    from torch import Tensor

    from msdk.autoencoders.base import FirstStage


DEFAULT = "optimal-denoiser"
"""The strategy for a recipe that names none: the paper's own."""


Progress = Callable[[str, int, int], None]
"""Told (strategy, done, total)."""


@as_annotated
def cluster(
    recipe: Recipe | str | Path,
    *,
    strategy: str | None = None,
    compare: bool = False,
    seed: int = 0,
    run: str | Path | None = None,
    device: str | None = None,
    cache: bool = False,
    progress: Progress | None = None,
) -> Clusters:
    """Finds stage edges for a recipe's data, under `stages.schedule` or else the recipe's own schedule.

    The processes of torchrun share the data, and all get the result.

    Args:
        recipe: A recipe, or the file of one. Its `stages.clustering` says how, unless `strategy` or `compare` do.
        strategy: Name of a strategy, with default settings.
        compare: Whether to run every registered strategy, with as many stages as the recipe has. One that cannot run is
            skipped, with the reason, as is one that trains a network where `run` gives none.
        seed: Seed of everything drawn.
        run: Run folder, for strategies that look at one; `gradient` at that of a network for all times.
        device: Where the large products run; CUDA where there is one when not given.
        cache: Whether to take what was found before for the same data and settings, and to keep what is found now; not
            with several processes, which could disagree.
        progress: Told how far each strategy is.

    Raises:
        PartError: A strategy's settings allow no edges.
        DataError: The data cannot be read.
        RunError: The weights of the autoencoder, or the run, cannot be read.
    """
    recipe, rank = recipe_of(recipe), this_rank()
    device = rank.device(pick_device(device))
    schedule = recipe.stages.schedule or recipe.schedule
    source = functools.cache(recipe.data.open)
    points = functools.cache(lambda: _points(recipe, source(), device))
    found: list[Strategy] = []
    skipped: dict[str, str] = {}
    looked = False
    with together(rank) as group, threads_for(0):  # the large products have more
        for label, name, spec in _chosen(recipe, strategy, compare, None if run is None else Path(run)):
            told = functools.partial(progress, label) if progress else lambda done, total: None
            subject = _subject(recipe, schedule, source, points, seed, device, group, told)
            try:
                _refuse(recipe, name, spec, compare=compare)
                digest = source().digest if cache and "data" in spec.needs else ""
                key = key_of(recipe, spec, digest, seed, device) if cache and rank.count == 1 else None
                known = recall(key, Strategy) if key else None
                one = attrs.evolve(known, cached=True) if known else _timed(name, spec, subject)
                if key and not known and key == key_of(recipe, spec, digest, seed, device):  # a run may go on meanwhile
                    keep(key, to_json(one))  # without what goes by the rest of the recipe
                found.append(_told(recipe, one))
                looked = looked or "data" in spec.needs
            except (PartError, DataError, RunError) as error:
                if not compare:
                    raise
                skipped[label] = str(error)
    if not found:
        raise PartError("no strategy can run: " + "; ".join(f"{name}: {why}" for name, why in skipped.items()))
    data = dict(to_data(recipe.data))
    del data["held_out"]  # edges are found on all images
    if looked:
        data |= {"images": len(source()), "sha256": source().digest}
        if recipe.autoencoder is not None:
            data["autoencoder"] = to_data(recipe.autoencoder)["name"]
    settings = dict(to_data(schedule))
    versions = {"msdk": __version__, "torch": importlib.metadata.version("torch")}
    span = schedule.t_min, schedule.t_max
    return Clusters(settings.pop("name"), settings, data, seed, tuple(found), skipped, versions, span)


def _chosen(recipe: Recipe, strategy: str | None, compare: bool, run: Path | None) -> list[tuple[str, str, Clustering]]:
    """The strategies to run: what to call each, its name, and its settings.

    Where all are compared, they make as many stages as the recipe has, and those that look at a run or at the data
    alone do both.
    """
    named = recipe.stages.clustering
    own = clusterings.registry.name_of(type(named)) if named is not None else None
    chosen: list[tuple[str, str, Clustering]] = []
    for name in clusterings.names() if compare else [strategy or own or DEFAULT]:
        spec: Clustering = named if named is not None and name == own else clusterings.get(name)()
        if compare and spec is not named:
            spec = _of_stages(spec, len(recipe.decoders))
        looks = run is not None and hasattr(spec, "run")
        if not looks or (compare and "denoiser" in spec.needs):
            chosen.append((name, name, spec))
        if looks:
            changes: Any = {"run": run}
            label = f"{name}, run" if compare and "denoiser" in spec.needs else name
            chosen.append((label, name, attrs.evolve(spec, **changes)))
    return chosen


def _of_stages(spec: Clustering, stages: int) -> Clustering:
    """The strategy for so many stages, if it makes that many; a recipe of one stage is yet to be cut."""
    changes: Any = {"stages": stages}
    try:
        return attrs.evolve(spec, **changes) if stages > 1 else spec
    except (ValueError, TypeError):
        return spec


def _refuse(recipe: Recipe, name: str, spec: Clustering, *, compare: bool) -> None:
    """Raises `PartError` where a strategy does not suit a recipe, or would train a network among many strategies."""
    if "data" in spec.needs and recipe.encoder_of(0).unit_range:
        raise PartError(
            f"{name} measures images in [-1, 1], but encoder.unit_range has them in [0, 1], where every edge has "
            "half the ratio: cluster with encoder.unit_range=false, and write half of its edges_ratio"
        )
    if compare and "models" in spec.needs and getattr(spec, "run", None) is None:
        raise PartError("it would train a network: give the run folder of one with --run")


def _subject(
    recipe: Recipe,
    schedule: Schedule,
    source: Callable[[], Source],
    points: Callable[[], Points],
    seed: int,
    device: str,
    group: Group,
    progress: Callable[[int, int], None],
) -> Subject:
    return Subject(
        schedule=schedule,
        points=points,
        calls=lambda: _calls(recipe, schedule),
        models=functools.partial(loss_gradients, recipe, schedule, source, device=device, progress=progress),
        denoiser=functools.partial(run_estimate, recipe, source, device),
        drawn=lambda share: _drawn(recipe, schedule, share),
        seed=seed,
        device=device,
        group=group,
        progress=progress,
    )


def _timed(name: str, spec: Clustering, subject: Subject) -> Strategy:
    started = time.perf_counter()
    result = spec.find(subject)
    seconds = time.perf_counter() - started
    return Strategy(
        name=name,
        edges_t=result.edges_t,
        edges_ratio=Partition.of_times(result.edges_t, subject.schedule).edges,
        intervals_t=result.intervals_t,
        settings={key: value for key, value in to_data(spec).items() if key != "name"},
        seconds=seconds,
        curves=result.curves,
        matrices=result.matrices,
        notes=result.notes,
        warnings=result.warnings,
        source=_source(spec),
    )


def _source(spec: Clustering) -> str:
    """What the strategy's own words say after "Source:"."""
    _, _, said = (inspect.getdoc(type(spec)) or "").partition("Source: ")
    return " ".join(said.partition("\n\n")[0].split()).rstrip(".")


def _told(recipe: Recipe, found: Strategy) -> Strategy:
    """What was found, with what its stages get of training and sampling, and warnings of those that get nothing."""
    partition = Partition(found.edges_ratio)
    images = tuple(recipe.training.noise.shares(recipe.schedule, partition))
    found = attrs.evolve(found, images_by_stage=images, calls_by_stage=_counts(recipe, partition))
    ready = recipe.with_partition(partition)
    if len(ready.decoders) != len(partition):
        return found  # it is compared with others alone
    try:
        told = [*undertrained(ready), *uncalled(ready)]
    except PartError as error:
        told = [str(error)]
    return attrs.evolve(found, warnings=(*found.warnings, *told))


def _counts(recipe: Recipe, partition: Partition) -> tuple[int, ...]:
    """The network calls of the recipe's sampler in each stage; none where they depend on the stages."""
    if recipe.sampling.steps_per_stage is not None:
        return ()
    counts = [0] * len(partition)
    try:
        for call in recipe.calls(Partition(())):
            counts[bisect.bisect_left(partition.edges, call.ratio)] += call.evaluations
    except PartError:
        return ()
    return tuple(counts)


def _points(recipe: Recipe, source: Source, device: str) -> Points:
    """The images, or their latents where the networks see these."""
    if recipe.autoencoder is None:
        return DataPoints(source, recipe.data.shape)
    weights_file(recipe.autoencoder)
    autoencoder = build_autoencoder(recipe.autoencoder, recipe.data.shape, device).eval()
    first_stage = cast("FirstStage", autoencoder)

    def encode(images: "Tensor") -> "Tensor":
        import torch

        with torch.no_grad():
            return (first_stage.encode(images.to(device)) * first_stage.scale).float().cpu()

    return DataPoints(source, recipe.shape, encode)


def _drawn(recipe: Recipe, schedule: Schedule, share: float) -> float:
    """The time below which training draws a share of its images, in the time of `schedule`."""
    import torch

    time = recipe.training.noise.quantile(recipe.schedule, torch.tensor(share, dtype=torch.float64))
    return schedule.t_of_ratio(recipe.schedule.ratio(float(time)))


def _calls(recipe: Recipe, schedule: Schedule) -> Sequence[float]:
    """The time of every evaluation of the recipe's sampler, in the time of `schedule`."""
    if recipe.sampling.steps_per_stage is not None:
        raise PartError("sampling.steps_per_stage deals calls to stages, which are still to be found: leave it out")
    return [schedule.t_of_ratio(call.ratio) for call in recipe.calls(Partition(())) for _ in range(call.evaluations)]
