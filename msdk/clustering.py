"""Runs clustering strategies on a recipe's data, and keeps what they found."""

import functools
import importlib.metadata
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import attrs

from msdk import __version__, clusterings
from msdk.building import build_autoencoder, pick_device, weights_file
from msdk.clusterings.base import Clustering, Interval, Points, Subject
from msdk.datasets.base import Source
from msdk.errors import PartError, PlotError, RunError
from msdk.gradients import loss_gradients
from msdk.partition import Partition
from msdk.points import DataPoints
from msdk.ranks import Group, this_rank, together
from msdk.recipe import Recipe
from msdk.report import clusters_plot
from msdk.schedules.base import Schedule
from msdk.structuring import to_data
from msdk.threads import threads_for
from msdk.tracing import explain
from msdk.writing import write_bytes, write_json, write_text

if TYPE_CHECKING:
    from torch import Tensor

    from msdk.autoencoders.base import FirstStage

DEFAULT = "optimal-denoiser"
"""The strategy for a recipe that names none: the paper's own."""

Progress = Callable[[str, int, int], None]
"""Told (strategy, done, total)."""


@attrs.frozen
class Strategy:
    """What one strategy found; see `msdk.clusterings.base.Found`."""

    name: str
    edges_t: tuple[float, ...]
    edges_ratio: tuple[float, ...]
    intervals_t: tuple[Interval, ...] | None
    settings: Mapping[str, Any]
    seconds: float
    curves: Mapping[str, list[float]]
    matrices: Mapping[str, list[list[float]]]
    notes: tuple[str, ...]
    warnings: tuple[str, ...]


@attrs.frozen
class Clusters:
    """What `msdk cluster` found: one strategy, or several to compare.

    Attributes:
        schedule: Name of the schedule whose time was cut.
        schedule_settings: Its fields.
        data: The data set, with the number of its images and their hash where a strategy looked at them.
        seed: Of everything drawn.
        strategies: What each found.
        skipped: Name -> why a strategy that was to be compared did not run.
        versions: Of msdk and torch.
    """

    schedule: str
    schedule_settings: Mapping[str, Any]
    data: Mapping[str, Any]
    seed: int
    strategies: tuple[Strategy, ...]
    skipped: Mapping[str, str]
    versions: Mapping[str, str]

    def partition(self) -> Partition:
        """The stages of the only strategy."""
        (strategy,) = self.strategies
        return Partition(strategy.edges_ratio)

    def warnings(self) -> Iterator[tuple[str, str]]:
        """(Strategy, why what it found may not be what is wanted)."""
        for strategy in self.strategies:
            for warning in strategy.warnings:
                yield strategy.name, warning

    def as_json(self) -> dict[str, Any]:
        """The object of `msdk cluster --json` and of clustering.json (docs/contracts.md)."""
        return attrs.asdict(self)


def cluster(
    recipe: Recipe,
    *,
    strategy: str | None = None,
    compare: bool = False,
    seed: int = 0,
    run: str | Path | None = None,
    device: str | None = None,
    progress: Progress | None = None,
) -> Clusters:
    """Finds stage edges for a recipe's data, under `stages.schedule` or else the recipe's own schedule.

    The processes of torchrun share the data, and all get the result.

    Args:
        recipe: Its `stages.clustering` says how, unless `strategy` or `compare` do.
        strategy: Name of a strategy, with default settings.
        compare: Whether to run every registered strategy. One that its settings keep from running is skipped, as is one
            that trains a network where `run` gives none.
        seed: Seed of everything drawn.
        run: Run folder of a network for all times, for strategies that look at one.
        device: Where the large products run; CUDA where there is one when not given.
        progress: Told how far each strategy is.

    Raises:
        PartError: A strategy's settings allow no edges.
        DataError: The data cannot be read.
        RunError: The weights of the autoencoder, or the run, cannot be read.
    """
    rank = this_rank()
    device = rank.device(pick_device(device))
    schedule = recipe.stages.schedule or recipe.schedule
    source = functools.cache(recipe.data.open)
    points = functools.cache(lambda: _points(recipe, source(), device))
    found: list[Strategy] = []
    skipped: dict[str, str] = {}
    looked = False
    specs = _chosen(recipe, strategy, compare, None if run is None else Path(run))
    with together(rank) as group, threads_for(0):  # the large products have more
        for name, spec in specs.items():
            looked = looked or "data" in spec.needs
            told = functools.partial(progress, name) if progress else lambda done, total: None
            subject = _subject(recipe, schedule, source, points, seed, device, group, told)
            try:
                if compare and "models" in spec.needs and getattr(spec, "run", None) is None:
                    raise PartError("it would train a network: give the run folder of one with --run")
                found.append(_timed(name, spec, subject))
            except PartError as error:
                if not compare:
                    raise
                skipped[name] = str(error)
    if not found:
        raise PartError("no strategy can run: " + "; ".join(f"{name}: {why}" for name, why in skipped.items()))
    data = dict(to_data(recipe.data))
    if looked:
        data |= {"images": len(source()), "sha256": source().digest}
        if recipe.autoencoder is not None:
            data["autoencoder"] = to_data(recipe.autoencoder)["name"]
    settings = dict(to_data(schedule))
    versions = {"msdk": __version__, "torch": importlib.metadata.version("torch")}
    return Clusters(settings.pop("name"), settings, data, seed, tuple(found), skipped, versions)


def _chosen(recipe: Recipe, strategy: str | None, compare: bool, run: Path | None) -> dict[str, Clustering]:
    """The strategies to run, by name."""
    named = recipe.stages.clustering
    own = clusterings.registry.name_of(type(named)) if named is not None else None
    specs: dict[str, Clustering] = {}
    for name in clusterings.names() if compare else [strategy or own or DEFAULT]:
        spec: Clustering = named if named is not None and name == own else clusterings.get(name)()
        if "models" in spec.needs and run is not None:
            spec = attrs.evolve(spec, run=run)
        if "data" in spec.needs and recipe.encoder.unit_range:
            raise PartError(
                f"{name} measures images in [-1, 1], but encoder.unit_range has them in [0, 1], where every edge has "
                "half the ratio: cluster with encoder.unit_range=false, and write half of its edges_ratio"
            )
        specs[name] = spec
    return specs


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
    )


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


def _calls(recipe: Recipe, schedule: Schedule) -> Sequence[float]:
    """The time of every evaluation of the recipe's sampler, in the time of `schedule`."""
    if recipe.sampling.steps_per_stage is not None:
        raise PartError("sampling.steps_per_stage deals calls to stages, which are still to be found: leave it out")
    calls = explain(Partition(()), recipe.schedule, recipe.sampler, recipe.steps, recipe.guidance)
    return [schedule.t_of_ratio(call.ratio) for call in calls for _ in range(call.evaluations)]


def write_clusters(path: Path, clusters: Clusters, *, force: bool = False) -> Path | None:
    """Keeps a clustering as a JSON file that `stages.from` can name, with a plot beside it.

    Returns:
        The plot's path; None where matplotlib is not installed.

    Raises:
        RunError: One of the files exists and `force` is false, or it cannot be written.
    """
    plot = path.with_suffix(".png")
    refuse_artefact(path, force=force)
    path.parent.mkdir(parents=True, exist_ok=True)
    data = clusters.as_json()
    write_json(path, data)
    try:
        picture = clusters_plot(data)
    except PlotError:
        return None
    write_bytes(plot, picture)
    return plot


def refuse_artefact(path: Path, *, force: bool) -> None:
    """Whether an artefact may be written there.

    Raises:
        RunError: It, or its plot, exists and `force` is false; or its name leaves none for the plot.
    """
    plot = path.with_suffix(".png")
    if plot == path:
        raise RunError(f"{path} is to be a JSON file, with a plot of that name beside it: choose another --out")
    for each in (path, plot):
        if each.exists() and not force:
            raise RunError(f"{each} exists: replace it with --force, or choose another --out")


def write_edges(path: Path, clusters: Clusters) -> None:
    """Writes the edges found into a recipe file, which keeps its comments and order.

    Raises:
        RunError: The file cannot be read or written.
    """
    import tomlkit

    try:
        document = tomlkit.parse(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise RunError(f"{path} cannot be read: {error.strerror}") from error
    stages = tomlkit.table()
    stages.add("edges_ratio", list(clusters.partition().edges))
    stages["edges_ratio"].comment(
        f"found by {clusters.strategies[0].name}, t = {_short(clusters.strategies[0].edges_t)}"
    )
    document["stages"] = stages
    write_text(path, tomlkit.dumps(document))


def _short(edges: tuple[float, ...]) -> str:
    return ", ".join(f"{edge:.4g}" for edge in edges)
